// The first layer: a 3×3 convolution of stride 2 over the planes of an image, straight from the planes into panels.
#pragma once

#include "layout.h"

namespace mnv3 {

struct Stem {
    int in, out;
    bool same;  // TensorFlow's padding
    Activation activation;
    float *weight, *bias;  // [panel][plane][line][column][lane]

    Stem(Arena& arena, const float* w, const float* b, int out_, int in_, bool same_, Activation activation_)
        : in(in_), out(out_), same(same_), activation(activation_), weight(arena.get<float>(size_t(panels(out_)) * L * in_ * 9)), bias(arena.get<float>(size_t(panels(out_)) * L)) {
        std::copy(b, b + out, bias);
        const int taps = in * 9;
        for (int c = 0; c < out; c++)
            for (int t = 0; t < taps; t++) weight[(size_t(c / L) * taps + t) * L + c % L] = w[size_t(c) * taps + t];
    }
};

constexpr int STEM_WIDTH = REGISTERS == 32 ? 14 : 7;

// `lines`: the pixel under the kernel's first column for result 0, of each plane's three lines; null above and below.
template <int WIDTH>
void stem_tile(const float* const* lines, int count, const float* weight, const float* bias, Value* out, Activation activation) {
    Vector sum[WIDTH];
    const Vector b = load(bias);
    repeat<WIDTH>([&](auto m) INLINED { sum[m] = b; });
    for (int line = 0; line < count; line++, weight += 3 * L) {
        const float* in = lines[line];
        if (!in) continue;
        repeat<3>([&](auto k) INLINED {
            const Vector w = load(weight + k * L);
            repeat<WIDTH>([&](auto m) INLINED { sum[m] = multiply_add(sum[m], all(in[2 * m + k]), w); });
        });
    }
    with(activation, [&](auto a) INLINED {
        repeat<WIDTH>([&](auto m) INLINED { store(out + m * L, activate<a>(sum[m])); });
    });
}

using StemFunction = void (*)(const float* const*, int, const float*, const float*, Value*, Activation);
template <int... M>
StemFunction stem_tile_of(int width, std::integer_sequence<int, M...>) {
    static constexpr StemFunction table[] = {stem_tile<M + 1>...};
    return table[width - 1];
}

// One line of results of all panels. `image`: its planes; `top`, `left`: where the kernel of result 0 begins; `panel`: from
// an output panel to the next. `lines`, `edge`: room for 3 lines a plane, and for what is under a tile at the edge.
inline void stem_row(const Stem& s, const float* image, int height, int width, int top, int left, Value* out, ptrdiff_t panel,
                     int count, std::vector<const float*>& lines, std::vector<float>& edge) {
    constexpr int UNDER = 2 * STEM_WIDTH + 1;  // pixels under the widest tile
    lines.resize(s.in * 3), edge.resize(s.in * 3 * UNDER);
    const int tiles = (count + STEM_WIDTH - 1) / STEM_WIDTH, base = count / tiles, wider = count % tiles;
    for (int i = 0, x = 0; i < tiles; i++) {
        const int results = base + (i < wider), begin = 2 * x + left, end = begin + 2 * results + 1;
        for (int line = 0; line < s.in * 3; line++) {
            const int y = top + line % 3;
            const float* row = image + (ptrdiff_t(line / 3) * height + y) * width;
            if (y < 0 || y >= height) {
                lines[line] = nullptr;
            } else if (begin >= 0 && end <= width) {
                lines[line] = row + begin;
            } else {
                float* copy = edge.data() + line * UNDER;
                for (int c = begin; c < end; c++) copy[c - begin] = c >= 0 && c < width ? row[c] : 0;
                lines[line] = copy;
            }
        }
        for (int p = 0; p < panels(s.out); p++)
            stem_tile_of(results, std::make_integer_sequence<int, STEM_WIDTH>{})(
                lines.data(), s.in * 3, s.weight + ptrdiff_t(p) * s.in * 9 * L, s.bias + p * L, out + p * panel + x * L,
                s.activation);
        x += results;
    }
}

}  // namespace mnv3
