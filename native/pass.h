// The passes over contiguous entries, included once for every level of instructions.
//
// LEVEL is the name of the level, BYTES the size of its vectors, TARGET an attribute for every
// function. Vectors are those of gcc and clang: compilers without them build no extension.

namespace LEVEL {

template <class F> struct Lanes;
template <> struct Lanes<float> {
    typedef float V __attribute__((vector_size(BYTES)));
    typedef int32_t I __attribute__((vector_size(BYTES)));
    static constexpr int32_t exponent = 0x7f800000, magnitude = 0x7fffffff;
};
template <> struct Lanes<double> {
    typedef double V __attribute__((vector_size(BYTES)));
    typedef int64_t I __attribute__((vector_size(BYTES)));
    static constexpr int64_t exponent = 0x7ff0000000000000, magnitude = 0x7fffffffffffffff;
};
typedef uint16_t Shorts __attribute__((vector_size(BYTES / 2)));
typedef uint32_t Words __attribute__((vector_size(BYTES)));

// The type in which entries are summed, and a vector of it.
template <class T> struct Working { typedef float F; };
template <> struct Working<double> { typedef double F; };
template <class T> using V = typename Lanes<typename Working<T>::F>::V;
template <class T> using I = typename Lanes<typename Working<T>::F>::I;

template <class Vector> TARGET inline Vector fetch(const void* from) {
    Vector v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

TARGET inline V<float> load(const float* x) { return fetch<V<float>>(x); }
TARGET inline V<double> load(const double* x) { return fetch<V<double>>(x); }
TARGET inline V<float> load(const Brain* x) {
    return (V<float>)(__builtin_convertvector(fetch<Shorts>(x), Words) << 16);
}
TARGET inline V<float> load(const Half* x) {
#if defined(HALF_CONVERSION)
    return HALF_CONVERSION(x);
#else
    // Shifted to its place a half is 2^112 too small; infinities and NaN have the largest exponent.
    Words word = __builtin_convertvector(fetch<Shorts>(x), Words);
    Words size = (word & 0x7fff) << 13;
    Words found = (Words)((V<float>)size * 0x1p112f);
    found |= (Words)(size >= 0x0f800000u) & 0x7f800000u;
    return (V<float>)(found | (word & 0x8000u) << 16);
#endif
}

// One entry as a float or double, for what is left of a run when all vectors are full.
TARGET inline float single(const float* x) { return *x; }
TARGET inline double single(const double* x) { return *x; }
TARGET inline float single(const Brain* x) {
    uint32_t word = (uint32_t)x->bits << 16;
    float found;
    __builtin_memcpy(&found, &word, 4);
    return found;
}
TARGET inline float single(const Half* x) {
    uint32_t size = (uint32_t)(x->bits & 0x7fff) << 13;
    float found;
    __builtin_memcpy(&found, &size, 4);
    found = size >= 0x0f800000u ? (size > 0x0f800000u ? NAN : INFINITY) : found * 0x1p112f;
    return x->bits & 0x8000 ? -found : found;
}

// The same number in every lane. Not as a sum with zero: that may flush it.
template <class T, class F = typename Working<T>::F> TARGET inline V<T> spread(F number) {
    V<T> v;
    for (size_t lane = 0; lane < BYTES / sizeof(F); ++lane) v[lane] = number;
    return v;
}

template <class Vector> TARGET inline Vector smaller(Vector a, Vector b) { return a < b ? a : b; }
template <class Vector> TARGET inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

// The lanes of a vector as one number.
template <class Vector> TARGET inline double total(Vector v) {
    double found = 0;
    for (size_t lane = 0; lane < sizeof v / sizeof v[0]; ++lane) found += v[lane];
    return found;
}
template <class Vector> TARGET inline auto largest(Vector v) {
    auto found = v[0];
    for (size_t lane = 1; lane < sizeof v / sizeof v[0]; ++lane)
        found = v[lane] > found ? v[lane] : found;
    return found;
}

// Sums of entries times `inverse`; counts and extremes of the entries themselves.
template <class F> struct Block {
    typename Lanes<F>::V sum, sum_sq, sum_abs, sum_4, low, high;
    typename Lanes<F>::I zero, positive, below, above, odd;
};

constexpr size_t CHAIN = 8, BLOCK = 1024;
// Partial sums of CHAIN additions per lane are put aside, those of a BLOCK added up in double.

// One block of at most BLOCK entries, a multiple of the lanes. MASKED leaves non-finite ones out.
template <bool MASKED, bool SCALED, bool ENDS, class T, class F = typename Working<T>::F>
TARGET inline Block<F> block(const T* x, size_t count, F inverse, F bottom, F top) {
    constexpr size_t lanes = BYTES / sizeof(F);
    const V<T> none = {}, infinite = spread<T>((F)INFINITY), times = spread<T>(inverse);
    const V<T> floor = spread<T>(bottom), ceiling = spread<T>(top);
    const I<T> all = (I<T>)none == 0;
    Block<F> found = {none, none, none, none, infinite, -infinite, {}, {}, {}, {}, {}};
    for (const T* end = x + count; x < end;) {
        V<T> sum = none, sum_sq = none, sum_abs = none, sum_4 = none;
        const T* stop = (size_t)(end - x) > CHAIN * lanes ? x + CHAIN * lanes : end;
#pragma GCC unroll 4
        for (; x < stop; x += lanes) {
            V<T> v = load(x), least = v, most = v;
            I<T> finite = all;
            found.zero -= v == none;
            if (MASKED) {
                finite = ((I<T>)v & Lanes<F>::exponent) != Lanes<F>::exponent;
                found.odd -= ~finite;
                least = finite ? v : infinite;
                most = finite ? v : -infinite;
                v = finite ? v : none;
            }
            found.low = smaller(least, found.low);
            found.high = larger(most, found.high);
            found.positive -= v > none;
            if (ENDS) {
                found.below -= (v <= floor) & finite;
                found.above -= (v >= ceiling) & finite;
            }
            if (SCALED) v *= times;
            V<T> square = v * v;
            sum += v;
            sum_abs += (V<T>)((I<T>)v & Lanes<F>::magnitude);
            sum_sq += square;
            sum_4 += square * square;
        }
        found.sum += sum;
        found.sum_abs += sum_abs;
        found.sum_sq += sum_sq;
        found.sum_4 += sum_4;
    }
    return found;
}

// Largest magnitudes whose powers, and those of entries 2^-14 as large, are far from both ends of
// float when a block of them is added up.
constexpr float SAFE_LOW = 0x1p-22f, SAFE_HIGH = 0x1p28f;

// Adds contiguous entries to a pass.
template <bool ENDS, class T> TARGET void add_all(const T* x, size_t count, Pass& pass) {
    typedef typename Working<T>::F F;
    constexpr size_t lanes = BYTES / sizeof(F);
    constexpr bool narrow = sizeof(F) == 4;
    F inverse = (F)pass.inverse, bottom, top;
    pass.ends.get(bottom, top);
    double* row = pass.row;
    V<T> low = spread<T>((F)INFINITY), high = -low;
    I<T> zero = {}, positive = {}, below = {}, above = {}, odd = {};
    size_t whole = count - count % lanes;
    for (size_t done = 0, size; done < whole; done += size) {
        size = whole - done < BLOCK ? whole - done : BLOCK;
        const T* here = x + done;
        auto found = inverse == 1 ? block<false, false, ENDS>(here, size, inverse, bottom, top)
                                  : block<false, true, ENDS>(here, size, inverse, bottom, top);
        double magnitude = total(found.sum_abs);
        F most = largest(larger(-found.low, found.high));
        bool fits = !narrow || most == 0 || (most * inverse >= SAFE_LOW && most * inverse <= SAFE_HIGH);
        if (!fits || magnitude - magnitude != 0) {
            if (narrow) {
                found = block<true, false, ENDS>(here, size, inverse, bottom, top);
                most = largest(larger(-found.low, found.high));
                int exponent;
                std::frexp(most > 0 ? most : 1, &exponent);
                exponent = exponent < -125 ? -125 : exponent > 126 ? 126 : exponent;
                inverse = (F)std::ldexp(1.0, -exponent);
            }
            found = block<true, true, ENDS>(here, size, inverse, bottom, top);
            magnitude = total(found.sum_abs);
        }
        double scale = narrow ? 1 / (double)inverse : 1, square = scale * scale;
        row[SUM] += total(found.sum) * scale;
        row[SUM_ABS] += magnitude * scale;
        row[SUM_SQ] += total(found.sum_sq) * square;
        row[SUM_4] += total(found.sum_4) * square * square;
        low = smaller(found.low, low);
        high = larger(found.high, high);
        zero += found.zero;
        positive += found.positive;
        below += found.below;
        above += found.above;
        odd += found.odd;
    }
    if (narrow) pass.inverse = inverse;
    row[COUNT] += count;
    row[NONFINITE] += total(odd);
    row[ZERO] += total(zero);
    row[POSITIVE] += total(positive);
    row[BELOW] += total(below);
    row[ABOVE] += total(above);
    double least = -largest(-low), most = largest(high);
    for (const T* here = x + whole; here < x + count; ++here) {
        F v = single(here);
        if (!(v - v == 0)) {
            ++row[NONFINITE];
            continue;
        }
        double y = narrow ? v : v * inverse, square = y * y;
        row[ZERO] += v == 0;
        row[POSITIVE] += v > 0;
        row[BELOW] += v <= bottom;
        row[ABOVE] += v >= top;
        row[SUM] += y;
        row[SUM_ABS] += y < 0 ? -y : y;
        row[SUM_SQ] += square;
        row[SUM_4] += square * square;
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    row[MIN] = least < row[MIN] ? least : row[MIN];
    row[MAX] = most > row[MAX] ? most : row[MAX];
}

template <class T> TARGET void add(const void* x, size_t count, Pass& pass) {
    (pass.ends.any() ? add_all<true, T> : add_all<false, T>)((const T*)x, count, pass);
}

// Whether an entry is neither below nor above, or is not finite.
template <class F> TARGET inline bool alive(F v, F bottom, F top) {
    return !(v <= bottom || v >= top) || v - v != 0;
}

// Whether any of contiguous entries is alive.
template <class T> TARGET bool any_alive(const void* data, size_t count, const Ends& ends) {
    typedef typename Working<T>::F F;
    constexpr size_t lanes = BYTES / sizeof(F), step = 4 * lanes;
    const T *x = (const T*)data, *end = x + count;
    F bottom, top;
    ends.get(bottom, top);
    const V<T> floor = spread<T>(bottom), ceiling = spread<T>(top);
    for (; (size_t)(end - x) >= step; x += step) {
        I<T> found = {};
        for (size_t at = 0; at < step; at += lanes) {
            V<T> v = load(x + at);
            found |= ~((v <= floor) | (v >= ceiling));
            found |= ((I<T>)v & Lanes<F>::exponent) == Lanes<F>::exponent;
        }
        if (total(found) != 0) return true;
    }
    for (; x < end; ++x)
        if (alive(single(x), bottom, top)) return true;
    return false;
}

// Takes the units out of a list of which an entry is alive; entries of units are `stride` apart.
template <class T> TARGET size_t still_flat(const void* data, ptrdiff_t stride, size_t* units,
                                            size_t count, const Ends& ends) {
    typename Working<T>::F bottom, top;
    ends.get(bottom, top);
    size_t kept = 0;
    for (size_t place = 0; place < count; ++place) {
        auto v = single((const T*)data + (ptrdiff_t)units[place] * stride);
        units[kept] = units[place];
        kept += !alive(v, bottom, top);
    }
    return kept;
}

const Level level = {
    {add<float>, add<double>, add<Half>, add<Brain>},
    {any_alive<float>, any_alive<double>, any_alive<Half>, any_alive<Brain>},
    {still_flat<float>, still_flat<double>, still_flat<Half>, still_flat<Brain>},
};
}  // namespace LEVEL
