// What one core can do at most, in loops that do nothing else: multiply-adds on registers, and reading through a buffer.
#include "layout.h"

namespace {

volatile float sink;  // so that no compiler leaves a loop out whose result nobody reads

}  // namespace

extern "C" {

// As many multiply-adds as it returns, in chains that are independent of each other: enough for two units of latency 4–5.
EXPORT int64_t mnv3_multiply_adds(int64_t rounds) {
    constexpr int CHAINS = mnv3::REGISTERS == 32 ? 24 : 12;
    mnv3::Vector sum[CHAINS];
    mnv3::repeat<CHAINS>([&](auto i) INLINED { sum[i] = mnv3::all(float(i) * 1e-3f); });
    const mnv3::Vector factor = mnv3::all(0.999f + sink * 0), term = mnv3::all(1e-3f + sink * 0);
    for (int64_t round = 0; round < rounds; round++)
        mnv3::repeat<CHAINS>([&](auto i) INLINED { sum[i] = sum[i] * factor + term; });
    mnv3::Vector total = {};
    mnv3::repeat<CHAINS>([&](auto i) INLINED { total += sum[i]; });
    sink = total[0];
    return rounds * CHAINS * mnv3::L;
}

// Reads `floats` numbers, a multiple of 8 vectors from an aligned address, so many rounds over.
EXPORT void mnv3_read(const float* from, int64_t floats, int64_t rounds) {
    mnv3::Vector sum[8] = {};
    for (int64_t round = 0; round < rounds; round++)
        for (const float *at = from, *end = from + floats; at < end; at += 8 * mnv3::L)
            mnv3::repeat<8>([&](auto i) INLINED { sum[i] += mnv3::load(at + i * mnv3::L); });
    mnv3::Vector total = {};
    mnv3::repeat<8>([&](auto i) INLINED { total += sum[i]; });
    sink = total[0];
}
}
