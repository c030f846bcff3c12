// The depthwise convolution: every channel with a kernel of its own, so a panel of L channels at a time.
//
// A tile is up to TALLEST neighbouring results of one row, in registers. Each line of the kernel loads its weights, then
// every pixel under it once, and adds it to all results that it belongs to. The rows have their zeros at the left and the
// right stored beside them; lines of the kernel above and below the map are left out.
#pragma once

#include "layout.h"

namespace mnv3 {

struct Depthwise {
    int channels, kernel, stride, dilation;
    float *weight, *bias;  // [panel][kernel line][kernel column][lane]

    Depthwise(Arena& arena, const float* w, const float* b, int channels_, int kernel_, int stride_, int dilation_)
        : channels(channels_), kernel(kernel_), stride(stride_), dilation(dilation_),
          weight(arena.get<float>(size_t(panels(channels_)) * L * kernel_ * kernel_)), bias(arena.get<float>(size_t(panels(channels_)) * L)) {
        std::copy(b, b + channels, bias);
        const int taps = kernel * kernel;
        for (int c = 0; c < channels; c++)
            for (int t = 0; t < taps; t++) weight[(size_t(c / L) * taps + t) * L + c % L] = w[size_t(c) * taps + t];
    }
};

// One row of results of one panel. Distances are in floats.
struct Row {
    const float* in;         // the first stored pixel of the first line under the kernel
    const ptrdiff_t* lines;  // from there to each further line
    int first, last;         // lines of the kernel that lie on the map
    const float *weight, *bias;
    int kernel, stride, dilation;
    Value* out;
    float* sum;  // where the sum of the results is added; or null
    Activation activation;
};

constexpr int WIDEST_ROW = REGISTERS == 32 ? 14 : 7;

// K and S are the kernel's side and stride if they are known when this is compiled, otherwise 0.
template <int K, int S, int WIDTH>
void row_tile(const Row& r, int x) {
    Vector sum[WIDTH];
    const Vector bias = load(r.bias);
    repeat<WIDTH>([&](auto m) INLINED { sum[m] = bias; });
    for (int line = r.first; line < r.last; line++) {
        const float* in = r.in + r.lines[line] + ptrdiff_t(x) * r.stride * L;
        const float* weight = r.weight + line * r.kernel * L;
        if constexpr (K > 0) {
            Vector w[K];
            repeat<K>([&](auto k) INLINED { w[k] = held(load(weight + k * L)); });
            repeat<(WIDTH - 1) * S + K>([&](auto j) INLINED {
                const Vector pixel = load(in + j * L);
                repeat<K>([&](auto k) INLINED {
                    constexpr int to = j - k;
                    if constexpr (to >= 0 && to % S == 0 && to / S < WIDTH) sum[to / S] = multiply_add(sum[to / S], pixel, w[k]);
                });
            });
        } else {
            for (int k = 0; k < r.kernel; k++, in += r.dilation * L) {
                const Vector w = load(weight + k * L);
                repeat<WIDTH>([&](auto m) INLINED { sum[m] = multiply_add(sum[m], load(in + m * r.stride * L), w); });
            }
        }
    }
    with(r.activation, [&](auto activation) INLINED {
        Vector total = {};
        repeat<WIDTH>([&](auto m) INLINED {
            const Vector y = activate<activation>(sum[m]);
            total += y;
            store(r.out + (x + m) * L, y);
        });
        if (r.sum) store(r.sum, load(r.sum) + total);
    });
}

using RowFunction = void (*)(const Row&, int x);

template <int K, int S, int... M>
RowFunction row_tile_of(int width, std::integer_sequence<int, M...>) {
    static constexpr RowFunction table[] = {row_tile<K, S, M + 1>...};
    return table[width - 1];
}

inline RowFunction row_tile_of(const Row& r, int width) {
    constexpr auto widths = std::make_integer_sequence<int, WIDEST_ROW>{};
    if (r.dilation == 1 && r.kernel == 3) return r.stride == 1 ? row_tile_of<3, 1>(width, widths) : row_tile_of<3, 2>(width, widths);
    if (r.dilation == 1 && r.kernel == 5) return r.stride == 1 ? row_tile_of<5, 1>(width, widths) : row_tile_of<5, 2>(width, widths);
    return row_tile_of<0, 0>(width, widths);
}

// A whole row of `count` results, in tiles as equal as they can be.
inline void convolve(const Row& r, int count) {
    const int tiles = (count + WIDEST_ROW - 1) / WIDEST_ROW, width = count / tiles, wider = count % tiles;
    for (int i = 0, x = 0; i < tiles; i++) {
        const int columns = width + (i < wider);
        row_tile_of(r, columns)(r, x);
        x += columns;
    }
}

}  // namespace mnv3
