// The 1x1 convolution: pixels × channels times channels × channels, and all that can be done before a result is stored.
//
// A tile is MR pixels × NV panels of results, MR·NV vectors that stay in registers while k runs over the input channels.
// Each step loads NV vectors of weights and, for each pixel, one number that is multiplied with all of them. The weights
// are packed in the order in which they are read: [group of NV panels][k][NV][lane].
#pragma once

#include "layout.h"

namespace mnv3 {

constexpr int WIDEST = 3;      // panels of a tile
constexpr size_t LINE = 64;    // bytes that come from memory at a time

// Pixels of a tile: results, NV weights and one number of a pixel share the registers.
constexpr int tallest(int nv) { return std::min(14, (REGISTERS - 1 - nv) / nv); }

struct Pointwise {
    int in, out;
    std::vector<int> groups;  // panels in each group
    Value* weight;
    float* bias;

    // w: (out, in) row by row; b: (out).
    Pointwise(Arena& arena, const float* w, const float* b, int out_, int in_)
        : in(in_), out(out_), weight(arena.get<Value>(packed(panels(out_)))), bias(arena.get<float>(size_t(panels(out_)) * L)) {
        std::copy(b, b + out, bias);
        for (int left = panels(out); left > 0; left -= groups.back()) groups.push_back(left == 4 ? 2 : std::min(left, WIDEST));
        Value* to = weight;
        int first = 0;
        for (int nv : groups) {
            for (int k = 0; k < in; k += PAIR)
                for (int n = first; n < first + nv * L; n++)
                    for (int i = k; i < k + PAIR; i++) *to++ = n < out && i < in ? w[size_t(n) * in + i] : 0;
            first += nv * L;
        }
    }
    // Packed weights of so many output panels.
    size_t packed(int count) const { return size_t(count) * L * ((in + PAIR - 1) / PAIR * PAIR); }
    // The first panel of a group.
    int first(int group) const {
        int panel = 0;
        for (int i = 0; i < group; i++) panel += groups[i];
        return panel;
    }
};

// Where the operands of one tile lie. Distances are in numbers.
template <class Out>
struct Tile {
    const Value* pixels;  // of the first input panel
    ptrdiff_t panel;      // from an input panel to the next
    const Value* weight;
    const float* bias;
    int in;
    Out* out;
    ptrdiff_t out_panel;
    const int* where;     // pixel m of the results goes to out[where[m]]
    const Out* shortcut;  // added to the results, at the same places as they; or null
    Activation activation;
};

template <int MR, int NV, class Out>
void tile(const Tile<Out>& t) {
    Vector sum[MR * NV];
    repeat<NV>([&](auto n) INLINED {
        const Vector bias = load(t.bias + n * L);
        repeat<MR>([&](auto m) INLINED { sum[m * NV + n] = bias; });
    });
    constexpr int STEP = PAIR * NV * L;
    const Value *pixels = t.pixels, *weight = t.weight;
    auto step = [&](const Value* x, const Value* from) INLINED {
        Weights w[NV];
        repeat<NV>([&](auto n) INLINED { w[n] = held(load_weights(from + n * PAIR * L)); });
        repeat<MR>([&](auto m) INLINED {
            const Weights xs = all(x + m * L);
            repeat<NV>([&](auto n) INLINED { sum[m * NV + n] = multiply_add(sum[m * NV + n], xs, w[n]); });
        });
    };
    int k = t.in;
    for (; k >= L; k -= L, pixels += t.panel)
        for (int lane = 0; lane < L; lane += 4 * PAIR, weight += 4 * STEP)
            repeat<4>([&](auto u) INLINED { step(pixels + lane + u * PAIR, weight + u * STEP); });
    for (int lane = 0; lane < k; lane += PAIR, weight += STEP) step(pixels + lane, weight);
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

template <int NV, class Out, int... M>
void run_tile(const Tile<Out>& t, int height, std::integer_sequence<int, M...>) {
    static constexpr void (*table[])(const Tile<Out>&) = {tile<M + 1, NV, Out>...};
    table[height - 1](t);
}
template <int NV, class Out>
void run_tile(const Tile<Out>& t, int height) {
    run_tile<NV>(t, height, std::make_integer_sequence<int, tallest(NV)>{});
}

// `count` pixels from the first of `t` through one group of nv panels, in tiles as equal as they can be.
template <class Out>
void multiply(Tile<Out> t, int count, int nv) {
    const int tiles = (count + tallest(nv) - 1) / tallest(nv), height = count / tiles, taller = count % tiles;
    // While these weights are used again and again, the next ones come nearer.
    const char* next = reinterpret_cast<const char*>(t.weight + size_t(t.in) * nv * L);
    const size_t bytes = tiles > 1 ? size_t(t.in) * nv * L * sizeof(Value) : 0;
    for (int i = 0; i < tiles; i++) {
        const int rows = height + (i < taller);
        for (size_t line = bytes * i / tiles; line < bytes * (i + 1) / tiles; line += LINE) __builtin_prefetch(next + line, 0, 2);
        nv == 1 ? run_tile<1>(t, rows) : nv == 2 ? run_tile<2>(t, rows) : run_tile<3>(t, rows);
        t.pixels += rows * L;
        t.where += rows;
    }
}

}  // namespace mnv3
