// From the loops of chapter 01 to tiles like the engine's: the 1×1 convolution in six steps, the depthwise one in four.
//
// Chapter 18 shows these functions; `writing_the_kernel.py` compiles and calls them. Steps before the last leave h-swish
// to a pass of its own. Channels fill whole panels, pixels whole tiles: the engine has the code for those that do not.
#include "depthwise.h"
#include "matmul.h"

using namespace mnv3;

constexpr int NV = WIDEST, MR = REGISTERS == 32 ? 7 : 4;  // panels and pixels of a tile

template <Activation A>
INLINE void product(const float* x, const float* w, const float* b, float* y,
                    int pixels, int in, int out) {
    for (int n = 0; n < out / L; n += NV)
        for (int p = 0; p < pixels; p += MR) {
            const float *numbers = x + p * L, *weights = w + n * in * L;
            Vector sum[MR * NV];
            repeat<MR * NV>([&](auto i) INLINED {
                sum[i] = load(b + (n + i % NV) * L);
            });
            for (int panel = 0; panel < in / L; panel++, numbers += pixels * L)
                for (int lane = 0; lane < L; lane += 4, weights += 4 * NV * L)
                    repeat<4>([&](auto k) INLINED {
                        Vector weight[NV];
                        repeat<NV>([&](auto v) INLINED {
                            weight[v] = held(load(weights + (k * NV + v) * L));
                        });
                        repeat<MR>([&](auto m) INLINED {
                            const Vector one = all(numbers[m * L + lane + k]);
                            repeat<NV>([&](auto v) INLINED {
                                sum[m * NV + v] += one * weight[v];
                            });
                        });
                    });
            repeat<MR * NV>([&](auto i) INLINED {
                store(y + ((n + i % NV) * pixels + p + i / NV) * L,
                      activate<A>(sum[i]));
            });
        }
}

extern "C" {

EXPORT int lanes() { return L; }
EXPORT int tile_panels() { return NV; }
EXPORT int tile_pixels() { return MR; }

EXPORT void h_swish(float* y, int count) {
    for (int i = 0; i < count; i++) y[i] *= std::min(1.f, std::max(0.f, y[i] * (1.f / 6) + 0.5f));
}

EXPORT void naive(const float* x, const float* w, const float* b, float* y,
           int pixels, int in, int out) {
    for (int n = 0; n < out; n++)
        for (int p = 0; p < pixels; p++) {
            float sum = b[n];
            for (int k = 0; k < in; k++)
                sum += x[k * pixels + p] * w[n * in + k];
            y[n * pixels + p] = sum;
        }
}

EXPORT void contiguous(const float* x, const float* w, const float* b,
                float* __restrict y, int pixels, int in, int out) {
    for (int p = 0; p < pixels; p++) {
        float* sums = y + p * out;
        for (int n = 0; n < out; n++) sums[n] = b[n];
        for (int k = 0; k < in; k++)
            for (int n = 0; n < out; n++)
                sums[n] += x[p * in + k] * w[k * out + n];
    }
}

EXPORT void vectors(const float* x, const float* w, const float* b, float* y,
           int pixels, int in, int out) {
    for (int n = 0; n < out / L; n++)
        for (int p = 0; p < pixels; p++) {
            Vector sum = load(b + n * L);
            for (int k = 0; k < in; k++)
                sum += all(x[(k / L * pixels + p) * L + k % L])
                     * load(w + (n * in + k) * L);
            store(y + (n * pixels + p) * L, sum);
        }
}

EXPORT void tiles(const float* x, const float* w, const float* b, float* y,
           int pixels, int in, int out) {
    for (int n = 0; n < out / L; n += NV)
        for (int p = 0; p < pixels; p += MR) {
            Vector sum[MR * NV];
            repeat<MR * NV>([&](auto i) INLINED {
                sum[i] = load(b + (n + i % NV) * L);
            });
            for (int k = 0; k < in; k++) {
                const float* numbers = x + (k / L * pixels + p) * L + k % L;
                Vector weight[NV];
                repeat<NV>([&](auto v) INLINED {
                    weight[v] = load(w + ((n + v) * in + k) * L);
                });
                repeat<MR>([&](auto m) INLINED {
                    const Vector one = all(numbers[m * L]);
                    repeat<NV>([&](auto v) INLINED {
                        sum[m * NV + v] += one * weight[v];
                    });
                });
            }
            repeat<MR * NV>([&](auto i) INLINED {
                store(y + ((n + i % NV) * pixels + p + i / NV) * L, sum[i]);
            });
        }
}

EXPORT void packed(const float* x, const float* w, const float* b, float* y,
           int pixels, int in, int out) {
    product<NONE>(x, w, b, y, pixels, in, out);
}

EXPORT void fused(const float* x, const float* w, const float* b, float* y,
           int pixels, int in, int out) {
    product<HARD_SWISH>(x, w, b, y, pixels, in, out);
}

EXPORT void depthwise_naive(const float* x, const float* w, const float* b, float* y,
                int side, int channels) {
    for (int c = 0; c < channels; c++)
        for (int row = 0; row < side; row++)
            for (int column = 0; column < side; column++) {
                float sum = b[c];
                for (int i = 0; i < 3; i++)
                    for (int j = 0; j < 3; j++) {
                        const int from = row + i - 1, at = column + j - 1;
                        if (from < 0 || from >= side || at < 0 || at >= side) continue;
                        sum += x[(c * side + from) * side + at] * w[c * 9 + i * 3 + j];
                    }
                y[(c * side + row) * side + column] = sum;
            }
}

EXPORT void depthwise_contiguous(const float* x, const float* w, const float* b, float* __restrict y,
                int side, int channels) {
    for (int row = 0; row < side; row++)
        for (int column = 0; column < side; column++) {
            float* sums = y + (row * side + column) * channels;
            for (int c = 0; c < channels; c++) sums[c] = b[c];
            for (int i = 0; i < 3; i++)
                for (int j = 0; j < 3; j++) {
                    const int from = row + i - 1, at = column + j - 1;
                    if (from < 0 || from >= side || at < 0 || at >= side) continue;
                    const float *pixel = x + (from * side + at) * channels, *tap = w + (i * 3 + j) * channels;
                    for (int c = 0; c < channels; c++) sums[c] += pixel[c] * tap[c];
                }
        }
}

EXPORT void depthwise_vectors(const float* x, const float* w, const float* b, float* y,
                int side, int channels) {
    const int pitch = side + 2;
    for (int n = 0; n < channels / L; n++)
        for (int row = 0; row < side; row++)
            for (int column = 0; column < side; column++) {
                Vector sum = load(b + n * L);
                for (int i = row == 0; i < 3 - (row == side - 1); i++)
                    for (int j = 0; j < 3; j++) {
                        const float* pixel = x + ((n * side + row + i - 1) * pitch + column + j) * L;
                        sum += load(pixel) * load(w + (n * 9 + i * 3 + j) * L);
                    }
                store(y + ((n * side + row) * side + column) * L, sum);
            }
}

EXPORT void depthwise_rows(const float* x, const float* w, const float* b, float* y,
                int side, int channels) {
    const ptrdiff_t pitch = (side + 2) * L, lines[3] = {-pitch, 0, pitch};
    for (int n = 0; n < channels / L; n++)
        for (int row = 0; row < side; row++) {
            const float* line = x + (n * side + row) * pitch;
            const int first = row == 0, last = 3 - (row == side - 1);
            const Row r{line, lines, first, last, w + n * 9 * L, b + n * L, 3, 1, 1,
                        y + (n * side + row) * side * L, nullptr, HARD_SWISH};
            for (int at = 0; at < side; at += WIDEST_ROW) row_tile<3, 1, WIDEST_ROW>(r, at);
        }
}
}
