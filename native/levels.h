// Levels of instructions: the same passes compiled for each, the best this processor has is used.
#pragma once
#include "row.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL avx512
#define BYTES 64
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define HALF_CONVERSION(x) (V<float>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(x)))
#include "pass.h"
#undef LEVEL
#undef BYTES
#undef TARGET
#undef HALF_CONVERSION

#define LEVEL avx2
#define BYTES 32
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define HALF_CONVERSION(x) (V<float>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(x)))
#include "pass.h"
#undef LEVEL
#undef BYTES
#undef TARGET
#undef HALF_CONVERSION
#endif

#define LEVEL base
#define BYTES 16
#define TARGET
#if defined(__aarch64__)
#define HALF_CONVERSION(x) (V<float>)vcvt_f32_f16(vld1_f16((const float16_t*)(x)))
#include <arm_neon.h>
#endif
#include "pass.h"

const Level* const levels[] = {
    &base::level,
#if defined(__x86_64__)
    &avx2::level,
    &avx512::level,
#endif
};
const char* const level_names[] = {"base", "avx2", "avx512"};
constexpr int LEVELS = sizeof levels / sizeof levels[0];

inline bool can_use(int level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
    if (level == 1) return avx2;
    if (level == 2)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    return level == 0;
}

// While it lives, results below the range of float are zero, which they are next to what they are
// added to, and which costs some processors a hundred cycles to find out; entries are what they are.
struct Flushed {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    Flushed() { _mm_setcsr((before | 0x8000) & ~0x0040u); }
    ~Flushed() { _mm_setcsr(before); }
#endif
};
