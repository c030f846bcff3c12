// How a feature map lies in memory, and the vectors that read it.
//
// A vector holds L floats, one register. The channels of a map are cut into panels of L, and a panel is stored pixel by
// pixel: [panel][image][y][x][lane]. So one load takes L channels of one pixel, and the neighbours of a pixel, which a
// depthwise kernel needs, are L floats away. Lanes beyond the last channel hold numbers that no weight ever uses.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

// What Python calls; all else is hidden, so that libraries for several processors can live in one process.
#define EXPORT __attribute__((visibility("default")))
#define INLINE __attribute__((always_inline)) inline
#define INLINED __attribute__((always_inline))  // the same, of a lambda

namespace mnv3 {

#if defined(__AVX512F__)
constexpr int L = 16, REGISTERS = 32;
#elif defined(__AVX2__)
constexpr int L = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int L = 4, REGISTERS = 32;
#else
constexpr int L = 4, REGISTERS = 16;
#endif

typedef float Vector __attribute__((vector_size(L * sizeof(float))));

// What maps and weights are made of. In bfloat16, the upper half of a float, a map takes half of the memory, and one
// instruction multiplies and adds pairs of channels; sums, and what a depthwise convolution reads, stay in float.
#if defined(MNV3_BFLOAT16)
struct Value {
    uint16_t bits;
    Value() = default;
    Value(float number) {  // to nearest, halves to even
        uint32_t whole;
        std::memcpy(&whole, &number, sizeof whole);
        bits = number != number ? 0x7fc0 : uint16_t((whole + 0x7fff + (whole >> 16 & 1)) >> 16);
    }
};
constexpr int PAIR = 2;  // channels that are multiplied and added at once
#else
typedef float Value;
constexpr int PAIR = 1;
#endif

INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
INLINE void store(float* to, Vector v) { *reinterpret_cast<Vector*>(to) = v; }
INLINE Vector all(float value) { return value - Vector{}; }

// sum + x * y, rounded once in every kernel. Left to itself GCC takes two instructions where it tunes for AMD and there is one
// sum, so that a result would depend on the tile that it was in.
INLINE Vector multiply_add(Vector sum, Vector x, Vector y) {
#if defined(__AVX512F__)
    return (Vector)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)sum);
#elif defined(__AVX2__)
    return (Vector)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)sum);
#else
    return sum + x * y;
#endif
}

// sum += PAIR channels of one pixel, the same for all lanes, times the weights of L output channels.
#if defined(MNV3_BFLOAT16)
typedef __m512bh Weights;
INLINE Weights load_weights(const Value* from) { return (Weights)_mm512_load_si512(from); }
INLINE Weights all(const Value* pair) { return (Weights)_mm512_set1_epi32(*reinterpret_cast<const int32_t*>(pair)); }
INLINE Vector multiply_add(Vector sum, Weights pair, Weights weights) { return (Vector)_mm512_dpbf16_ps((__m512)sum, pair, weights); }
INLINE Vector load(const Value* from) {
    return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(from))), 16);
}
INLINE void store(Value* to, Vector v) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)v)); }
#else
typedef Vector Weights;
INLINE Weights load_weights(const Value* from) { return load(from); }
INLINE Weights all(const Value* channel) { return all(*channel); }
#endif

// The larger and the smaller of a limit and x, one instruction each. Where x is not a number both give x, so that nothing
// hides it; the processors of Intel and AMD give the second operand then.
#if defined(__AVX512F__)
INLINE Vector at_least(float limit, Vector x) { return (Vector)_mm512_max_ps((__m512)all(limit), (__m512)x); }
INLINE Vector at_most(float limit, Vector x) { return (Vector)_mm512_min_ps((__m512)all(limit), (__m512)x); }
#elif defined(__AVX2__)
INLINE Vector at_least(float limit, Vector x) { return (Vector)_mm256_max_ps((__m256)all(limit), (__m256)x); }
INLINE Vector at_most(float limit, Vector x) { return (Vector)_mm256_min_ps((__m256)all(limit), (__m256)x); }
#elif defined(__SSE2__)
INLINE Vector at_least(float limit, Vector x) { return (Vector)_mm_max_ps((__m128)all(limit), (__m128)x); }
INLINE Vector at_most(float limit, Vector x) { return (Vector)_mm_min_ps((__m128)all(limit), (__m128)x); }
#else
INLINE Vector at_least(float limit, Vector x) { return all(limit) > x ? all(limit) : x; }
INLINE Vector at_most(float limit, Vector x) { return all(limit) < x ? all(limit) : x; }
#endif

// An empty instruction that wants v in a register. Without it GCC loads a weight anew for each number that it multiplies.
template <class V>
INLINE V held(V v) {
#if defined(__x86_64__)
    asm volatile("" : "+v"(v));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(v));
#endif
    return v;
}

enum Activation { NONE, RELU, HARD_SWISH, HARD_SIGMOID };

template <Activation A>
INLINE Vector activate(Vector x) {
    if constexpr (A == RELU) return at_least(0, x);
    if constexpr (A == HARD_SIGMOID) return at_most(1, at_least(0, x * (1.f / 6) + 0.5f));
    if constexpr (A == HARD_SWISH) return x * activate<HARD_SIGMOID>(x);
    return x;
}

// Calls `body` with the activation as a constant.
template <class F>
INLINE void with(Activation activation, F&& body) {
    switch (activation) {
        case RELU: return body(std::integral_constant<Activation, RELU>{});
        case HARD_SWISH: return body(std::integral_constant<Activation, HARD_SWISH>{});
        case HARD_SIGMOID: return body(std::integral_constant<Activation, HARD_SIGMOID>{});
        case NONE: return body(std::integral_constant<Activation, NONE>{});
    }
}

// A loop whose counter is a constant, so that what it indexes stays in registers.
template <class F, int... I>
INLINE void unrolled(F&& body, std::integer_sequence<int, I...>) {
    (body(std::integral_constant<int, I>{}), ...);
}
template <int N, class F>
INLINE void repeat(F&& body) {
    unrolled(body, std::make_integer_sequence<int, N>{});
}

inline int panels(int channels) { return (channels + L - 1) / L; }

// Memory for all that lives as long as a network or a plan: zeroed, aligned for vectors, in few large pieces. The pieces ask
// for huge pages: whoever reads all weights once then misses the translation buffer 500 times less.
class Arena {
  public:
    Arena() = default;
    Arena(Arena&&) = default;
    template <class T>
    T* get(size_t count) {
        const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
        if (bytes > left_ || SEPARATE) {
            left_ = SEPARATE ? std::max<size_t>(bytes, 64) : (std::max(bytes, PIECE) + HUGE - 1) / HUGE * HUGE;
            next_ = static_cast<char*>(std::aligned_alloc(SEPARATE ? 64 : HUGE, left_));
            if (!next_) throw std::bad_alloc();
            pieces_.emplace_back(next_, std::free);
#if defined(MADV_HUGEPAGE)
            if (!SEPARATE) madvise(next_, left_, MADV_HUGEPAGE);
#endif
            std::memset(next_, 0, left_);
        }
        left_ -= bytes;
        return reinterpret_cast<T*>(std::exchange(next_, next_ + bytes));
    }

  private:
#if defined(__SANITIZE_ADDRESS__)
    static constexpr bool SEPARATE = true;  // so that reading from one into its neighbour is noticed
#else
    static constexpr bool SEPARATE = false;
#endif
    static constexpr size_t HUGE = 2u << 20, PIECE = 8u << 20;
    std::vector<std::unique_ptr<char, void (*)(void*)>> pieces_;
    char* next_ = nullptr;
    size_t left_ = 0;
};

}  // namespace mnv3
