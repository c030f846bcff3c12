// The network as the engine keeps it: layers with their batch norm folded in and their weights packed.
#pragma once

#include <optional>

#include "depthwise.h"
#include "matmul.h"
#include "stem.h"

namespace mnv3 {

// Reads arrays one after another and knows where they end.
template <class T>
class Reader {
  public:
    Reader(const T* data, size_t count, const char* what) : next_(data), left_(count), what_(what) {}
    const T* take(size_t count) {
        if (count > left_) throw std::invalid_argument(std::string("too few ") + what_);
        left_ -= count;
        return std::exchange(next_, next_ + count);
    }
    T one() { return *take(1); }
    void end() const {
        if (left_) throw std::invalid_argument(std::to_string(left_) + " " + what_ + " too many");
    }

  private:
    const T* next_;
    size_t left_;
    const char* what_;
};

using Floats = Reader<float>;
using Integers = Reader<int32_t>;

inline Pointwise pointwise(Arena& arena, Floats& from, int out, int in) {
    const float* weight = from.take(size_t(out) * in);
    return Pointwise(arena, weight, from.take(out), out, in);
}

struct SqueezeExcitation {
    Pointwise squeeze, excite;
};

// expansion 1×1 → depthwise → squeeze-and-excitation → projection 1×1, and the shortcut; what a row lacks is empty.
struct Block {
    Activation activation;
    bool same, shortcut;  // TensorFlow's padding; input and output added
    std::optional<Pointwise> expansion;
    Depthwise depthwise;
    std::optional<SqueezeExcitation> gate;
    Pointwise projection;

    static Block read(Arena& arena, Integers& row, Floats& from, int in) {
        const int expanded = row.one(), out = row.one(), kernel = row.one(), stride = row.one(), dilation = row.one();
        const bool same = row.one();
        const int squeeze = row.one();
        const auto activation = Activation(row.one());
        const bool expands = row.one(), shortcut = row.one();
        std::optional<Pointwise> expansion;
        if (expands) expansion.emplace(pointwise(arena, from, expanded, in));
        const float* weight = from.take(size_t(expanded) * kernel * kernel);
        Depthwise depthwise(arena, weight, from.take(expanded), expanded, kernel, stride, dilation);
        std::optional<SqueezeExcitation> gate;
        if (squeeze) {
            Pointwise first = pointwise(arena, from, squeeze, expanded);
            gate.emplace(SqueezeExcitation{std::move(first), pointwise(arena, from, expanded, squeeze)});
        }
        return {activation, same, shortcut, std::move(expansion), std::move(depthwise), std::move(gate), pointwise(arena, from, out, expanded)};
    }
};

// Before a convolution of a line of n pixels, so many zeros; TensorFlow's SAME puts the odd one behind.
inline int zeros_before(bool same, int n, int kernel, int stride, int dilation) {
    const int most = (kernel - 1) * dilation;
    return same ? std::max(0, most - (n - 1) % stride) / 2 : most / 2;
}

struct Network {
    Arena arena;
    Stem stem;
    std::vector<Block> blocks;
    Activation last_activation, hidden_activation;
    Pointwise last, hidden, logits;

    // The numbers are those of `reading.py`, in its order.
    static Network read(Integers numbers, Floats weights) {
        Arena arena;
        const int channels = numbers.one(), stem_channels = numbers.one();
        const bool same = numbers.one();
        const auto activation = Activation(numbers.one());
        const float* stem_weights = weights.take(size_t(stem_channels) * channels * 9);
        Stem stem(arena, stem_weights, weights.take(stem_channels), stem_channels, channels, same, activation);
        std::vector<Block> blocks;
        for (int left = numbers.one(), in = stem_channels; left > 0; left--, in = blocks.back().projection.out)
            blocks.push_back(Block::read(arena, numbers, weights, in));
        Pointwise last = pointwise(arena, weights, numbers.one(), blocks.back().projection.out);
        const auto last_activation = Activation(numbers.one());
        Pointwise hidden = pointwise(arena, weights, numbers.one(), last.out);
        const auto hidden_activation = Activation(numbers.one());
        Pointwise logits = pointwise(arena, weights, numbers.one(), hidden.out);
        numbers.end();
        weights.end();
        return {std::move(arena), std::move(stem), std::move(blocks), last_activation, hidden_activation, std::move(last), std::move(hidden), std::move(logits)};
    }
};

}  // namespace mnv3
