// The 1x1 convolution: pixels × channels times channels × channels, and all that can be done before a result is stored.
//
// A tile is MR pixels × NV panels of results, MR·NV vectors that stay in registers while k runs over the input channels.
// Each step loads NV vectors of weights and, for each pixel, one number that is multiplied with all of them. The weights
// are packed in the order in which they are read: [group of NV panels][k][NV][lane].
#pragma once

#include "layout.h"

namespace mnv3 {

constexpr int WIDEST = 3;  // panels of a tile

// Pixels of a tile: results, NV weights and one number of a pixel share the registers.
constexpr int tallest(int nv) { return std::min(14, (REGISTERS - 1 - nv) / nv); }

struct Pointwise {
    int in, out;
    std::vector<int> groups;  // panels in each group
    float *weight, *bias;

    // w: (out, in) row by row; b: (out).
    Pointwise(Arena& arena, const float* w, const float* b, int out_, int in_)
        : in(in_), out(out_), weight(arena.floats(size_t(panels(out_)) * L * in_)), bias(arena.floats(size_t(panels(out_)) * L)) {
        std::copy(b, b + out, bias);
        for (int left = panels(out); left > 0; left -= groups.back()) groups.push_back(left == 4 ? 2 : std::min(left, WIDEST));
        float* to = weight;
        int first = 0;
        for (int nv : groups) {
            for (int k = 0; k < in; k++)
                for (int n = first; n < first + nv * L; n++) *to++ = n < out ? w[size_t(n) * in + k] : 0;
            first += nv * L;
        }
    }
    // The first panel of a group.
    int first(int group) const {
        int panel = 0;
        for (int i = 0; i < group; i++) panel += groups[i];
        return panel;
    }
};

// Where the operands of one tile lie. Distances are in floats.
struct Tile {
    const float* pixels;  // of the first input panel
    ptrdiff_t panel;      // from an input panel to the next
    const float *weight, *bias;
    int in;
    float* out;
    ptrdiff_t out_panel;
    const int* where;       // pixel m of the results goes to out[where[m]]
    const float* shortcut;  // added to the results, at the same places as they; or null
    Activation activation;
};

template <int MR, int NV>
void tile(const Tile& t) {
    Vector sum[MR * NV];
    repeat<NV>([&](auto n) INLINED {
        const Vector bias = load(t.bias + n * L);
        repeat<MR>([&](auto m) INLINED { sum[m * NV + n] = bias; });
    });
    const float *pixels = t.pixels, *weight = t.weight;
    auto step = [&](const float* x, const float* from) INLINED {
        Vector w[NV];
        repeat<NV>([&](auto n) INLINED { w[n] = load(from + n * L); });
        repeat<MR>([&](auto m) INLINED {
            const Vector xs = all(x[m * L]);
            repeat<NV>([&](auto n) INLINED { sum[m * NV + n] += xs * w[n]; });
        });
    };
    int k = t.in;
    for (; k >= L; k -= L, pixels += t.panel)
        for (int lane = 0; lane < L; lane += 4, weight += 4 * NV * L)
            repeat<4>([&](auto u) INLINED { step(pixels + lane + u, weight + u * NV * L); });
    for (int lane = 0; lane < k; lane++, weight += NV * L) step(pixels + lane, weight);
    with(t.activation, [&](auto activation) INLINED {
        repeat<NV>([&](auto n) INLINED {
            repeat<MR>([&](auto m) INLINED {
                Vector y = activate<activation>(sum[m * NV + n]);
                const ptrdiff_t at = n * t.out_panel + t.where[m];
                if (t.shortcut) y += load(t.shortcut + at);
                store(t.out + at, y);
            });
        });
    });
}

using TileFunction = void (*)(const Tile&);

template <int NV, int... M>
TileFunction tile_of(int height, std::integer_sequence<int, M...>) {
    static constexpr TileFunction table[] = {tile<M + 1, NV>...};
    return table[height - 1];
}
template <int NV>
TileFunction tile_of(int height) {
    return tile_of<NV>(height, std::make_integer_sequence<int, tallest(NV)>{});
}

// `count` pixels from the first of `t` through one group of nv panels, in tiles as equal as they can be.
inline void multiply(Tile t, int count, int nv) {
    const int tiles = (count + tallest(nv) - 1) / tallest(nv), height = count / tiles, taller = count % tiles;
    for (int i = 0; i < tiles; i++) {
        const int rows = height + (i < taller);
        (nv == 1 ? tile_of<1>(rows) : nv == 2 ? tile_of<2>(rows) : tile_of<3>(rows))(t);
        t.pixels += rows * L;
        t.where += rows;
    }
}

}  // namespace mnv3
