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

INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
INLINE void store(float* to, Vector v) { *reinterpret_cast<Vector*>(to) = v; }
INLINE Vector all(float value) { return value - Vector{}; }

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

// Zeroed floats, aligned for vectors. From 2 MB on they ask for huge pages: reading all weights once then misses the
// translation buffer 500 times less.
class Buffer {
  public:
    explicit Buffer(size_t floats) : bytes_((std::max<size_t>(floats, 1) * sizeof(float) + 63) / 64 * 64) {
        const size_t huge = 2u << 20, alignment = bytes_ >= huge ? huge : 64;
        bytes_ = (bytes_ + alignment - 1) / alignment * alignment;
        data_ = static_cast<float*>(std::aligned_alloc(alignment, bytes_));
        if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
        if (alignment == huge) madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
        std::memset(data_, 0, bytes_);
    }
    Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
    Buffer(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }
    float* data() const { return data_; }
    size_t bytes() const { return bytes_; }

  private:
    float* data_;
    size_t bytes_;
};

}  // namespace mnv3
