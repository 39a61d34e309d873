/* 3x3 convolutions with zero padding by Winograd's F(4, 3) along the height; see convolution.py.

Maps are contiguous (n, h, w, c). The numbers of channels are multiples of 16. A tile is four rows of the output. Each
thread takes up to BLOCK columns of a tile at a time, so its intermediate maps stay in its own cache. Variables follow
y = A^T [(G g) . (B^T d)], where "." is a convolution along the row: U = G g, V = B^T d, M = U . V.
Functions that can fail return 0 for success and 1 if there is not enough memory. */

#include <stdlib.h>
#include <string.h>

/* Use of the vector registers. A processor has 32 of them; older x86 has 16.
LANES: number of floats in a register. MOST_COLS: number of registers per position in one step of a product.
INPUTS, MOST_GRADIENT_COLS: number of input channels, and of registers per channel, for the weight's gradient. */
#if defined(__AVX512F__)
enum { LANES = 16, MOST_COLS = 4, INPUTS = 8, MOST_GRADIENT_COLS = 2 };
#elif defined(__AVX2__)
enum { LANES = 8, MOST_COLS = 2, INPUTS = 4, MOST_GRADIENT_COLS = 2 };
#elif defined(__x86_64__)
enum { LANES = 4, MOST_COLS = 2, INPUTS = 4, MOST_GRADIENT_COLS = 2 };
#else
enum { LANES = 4, MOST_COLS = 4, INPUTS = 8, MOST_GRADIENT_COLS = 2 };
#endif

/* vec is a register of floats. vec_in_memory is the same in memory that may be unaligned. */
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_in_memory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define LOAD(address) ((vec)(*(const vec_in_memory *)(address)))
#define STORE(address, value) (*(vec_in_memory *)(address) = (value))
#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    TILE = 4,
    PRODUCTS = 6,
    TAPS = 3,
    BLOCK = 48,              /* largest number of columns in a block; a multiple of STEP */
    WIDE = BLOCK + TAPS - 1, /* columns of a block, with one more on each side */
    STEP = 6,                /* number of positions in one step of a product */
    MOST_SUMS = 1 << 26      /* limit for the gradient sums of all threads: 256 MiB in floats */
};

static long min(long a, long b) { return a < b ? a : b; }

static long rounded_up(long a, long to) { return (a + to - 1) / to * to; }

static float *allocate_floats(long count) { return aligned_alloc(64, rounded_up(sizeof(float) * count, 64)); }

/* Number of columns in a block: equal parts of the width, at most BLOCK, so narrow that every thread gets a block. */
static long block_of(long w, long tiles, int threads) {
    long blocks = (w + BLOCK - 1) / BLOCK, for_all = (threads + tiles - 1) / tiles;
    if (blocks < for_all) blocks = for_all;
    return rounded_up((w + blocks - 1) / blocks, STEP);
}

/* Compute U = G g: weight (o, c, 3, 3) with any strides -> U (6, 3, c, o). */
void winograd_transform_weight(const float *g, long stride_o, long stride_c, long stride_y, long stride_x,
                               float *u, long c, long o, int threads) {
    long plane = TAPS * c * o;
#pragma omp parallel for collapse(2) num_threads(threads)
    for (long x = 0; x < TAPS; x++)
        for (long i = 0; i < c; i++)
            for (long j = 0; j < o; j++) {
                const float *from = g + j * stride_o + i * stride_c + x * stride_x;
                float g0 = from[0], g1 = from[stride_y], g2 = from[2 * stride_y];
                float even = (g0 + g2) / 6, odd = g1 / 6, even2 = g0 / 24 + g2 / 6, odd2 = g1 / 12;
                float *to = u + (x * c + i) * o + j;
                to[0] = g0 / 4;
                to[plane] = -even - odd;
                to[2 * plane] = odd - even;
                to[3 * plane] = even2 + odd2;
                to[4 * plane] = even2 - odd2;
                to[5 * plane] = g2;
            }
}

/* Compute V = B^T d of a tile: image (h, w, c) from column left - 1 -> `block` + 2 columns of V (6, WIDE, c). */
static void transform_input(const float *x, long h, long w, long c, long top, long left, long block, float *v) {
    long plane = WIDE * c;
    for (long col = 0; col < block + TAPS - 1; col++) {
        long at = left + col - 1;
        float *to = v + col * c;
        if (at < 0 || at >= w) {
            for (long k = 0; k < PRODUCTS; k++) memset(to + k * plane, 0, c * sizeof(float));
            continue;
        }
        for (long i = 0; i < c; i += LANES) {
            vec d[PRODUCTS];
            for (long k = 0; k < PRODUCTS; k++) {
                long row = top + k - 1;
                d[k] = row < 0 || row >= h ? (vec){0} : LOAD(x + (row * w + at) * c + i);
            }
            vec even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);
            STORE(to + i, 4 * d[0] - 5 * d[2] + d[4]);
            STORE(to + i + plane, even + odd);
            STORE(to + i + 2 * plane, even - odd);
            STORE(to + i + 3 * plane, even2 + odd2);
            STORE(to + i + 4 * plane, even2 - odd2);
            STORE(to + i + 5 * plane, 4 * d[1] - 5 * d[3] + d[5]);
        }
    }
}

/* Compute M at STEP positions. Each reads 3 * c floats of v, c floats after the previous position. u is (3 * c, o). */
ALWAYS_INLINE void product(const float *v, const float *u, float *m, long c, long o, int cols) {
    vec sums[STEP][MOST_COLS];
    for (int row = 0; row < STEP; row++)
        for (int col = 0; col < cols; col++) sums[row][col] = (vec){0};
    for (long i = 0; i < TAPS * c; i++) {
        vec weights[MOST_COLS];
        for (int col = 0; col < cols; col++) weights[col] = LOAD(u + i * o + col * LANES);
        for (int row = 0; row < STEP; row++)
            for (int col = 0; col < cols; col++) sums[row][col] += v[row * c + i] * weights[col];
    }
    for (int row = 0; row < STEP; row++)
        for (int col = 0; col < cols; col++) STORE(m + row * o + col * LANES, sums[row][col]);
}

/* Compute M = U . V: v (6, WIDE, c), u (6, 3, c, o) -> the first `block` columns of M (6, BLOCK, o). */
static void multiply(const float *v, const float *u, float *m, long c, long o, long block) {
    for (long k = 0; k < PRODUCTS; k++)
        for (long j = 0; j < o; j += MOST_COLS * LANES)
            for (long col = 0; col < block; col += STEP) {
                const float *from = v + (k * WIDE + col) * c, *weights = u + k * TAPS * c * o + j;
                float *to = m + (k * BLOCK + col) * o + j;
                switch (min(MOST_COLS, (o - j) / LANES)) { /* with a constant, the compiler can assign registers */
                    case 1: product(from, weights, to, c, o, 1); break;
                    case 2: product(from, weights, to, c, o, 2); break;
                    case 3: product(from, weights, to, c, o, MOST_COLS > 3 ? 3 : MOST_COLS); break;
                    default: product(from, weights, to, c, o, MOST_COLS);
                }
            }
}

/* Compute A^T M + bias: the first `width` columns of M (6, BLOCK, o) -> four rows of the image (h, w, o). */
static void transform_output(const float *m, const float *bias, long h, long w, long o, long top, long left, long width,
                             float *y) {
    long plane = BLOCK * o, row = w * o;
    for (long col = 0; col < width; col++)
        for (long j = 0; j < o; j += LANES) {
            const float *from = m + col * o + j;
            vec m0 = LOAD(from), m1 = LOAD(from + plane), m2 = LOAD(from + 2 * plane), m3 = LOAD(from + 3 * plane);
            vec m4 = LOAD(from + 4 * plane), m5 = LOAD(from + 5 * plane), added = bias ? LOAD(bias + j) : (vec){0};
            vec even = m1 + m2, odd = m1 - m2, even2 = m3 + m4, odd2 = m3 - m4;
            float *to = y + (top * w + left + col) * o + j;
            STORE(to, m0 + even + even2 + added);
            if (top + 1 < h) STORE(to + row, odd + 2 * odd2 + added);
            if (top + 2 < h) STORE(to + 2 * row, even + 4 * even2 + added);
            if (top + 3 < h) STORE(to + 3 * row, odd + 8 * odd2 + m5 + added);
        }
}

/* Convolve: x (n, h, w, c), u (6, 3, c, o), bias (o) or NULL -> y (n, h, w, o). */
int winograd_convolution(const float *x, const float *u, const float *bias, float *y, long n, long h, long w, long c,
                         long o, int threads) {
    long block = block_of(w, n * ((h + TILE - 1) / TILE), threads);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *v = allocate_floats(PRODUCTS * WIDE * c), *m = allocate_floats(PRODUCTS * BLOCK * o);
        failed = !v || !m;
#pragma omp for collapse(3) schedule(dynamic)
        for (long image = 0; image < n; image++)
            for (long top = 0; top < h; top += TILE)
                for (long left = 0; left < w; left += block) {
                    if (failed) continue;
                    transform_input(x + image * h * w * c, h, w, c, top, left, block, v);
                    multiply(v, u, m, c, o, block);
                    transform_output(m, bias, h, w, o, top, left, min(block, w - left), y + image * h * w * o);
                }
        free(v);
        free(m);
    }
    return failed;
}

/* Compute dM, the gradient of M: four rows of the output's gradient (h, w, o) -> `width` columns of (6, BLOCK, o). */
static void transform_gradient(const float *y, long h, long w, long o, long top, long left, long width, float *m) {
    long plane = BLOCK * o;
    for (long col = 0; col < width; col++)
        for (long j = 0; j < o; j += LANES) {
            vec g[TILE];
            for (long row = 0; row < TILE; row++)
                g[row] = top + row < h ? LOAD(y + ((top + row) * w + left + col) * o + j) : (vec){0};
            vec even = g[0] + g[2], odd = g[1] + g[3], even2 = g[0] + 4 * g[2], odd2 = 2 * g[1] + 8 * g[3];
            float *to = m + col * o + j;
            STORE(to, g[0]);
            STORE(to + plane, even + odd);
            STORE(to + 2 * plane, even - odd);
            STORE(to + 3 * plane, even2 + odd2);
            STORE(to + 4 * plane, even2 - odd2);
            STORE(to + 5 * plane, g[3]);
        }
}

/* Add v (WIDE, c) times m (BLOCK, o), summed over `width` positions, to INPUTS rows of dU, cols * LANES floats each. */
ALWAYS_INLINE void accumulate(const float *v, const float *m, float *u, long c, long o, long width, int cols) {
    vec sums[INPUTS][MOST_GRADIENT_COLS];
    for (int i = 0; i < INPUTS; i++)
        for (int col = 0; col < cols; col++) sums[i][col] = LOAD(u + i * o + col * LANES);
    for (long at = 0; at < width; at++) {
        vec gradients[MOST_GRADIENT_COLS];
        for (int col = 0; col < cols; col++) gradients[col] = LOAD(m + at * o + col * LANES);
        for (int i = 0; i < INPUTS; i++)
            for (int col = 0; col < cols; col++) sums[i][col] += v[at * c + i] * gradients[col];
    }
    for (int i = 0; i < INPUTS; i++)
        for (int col = 0; col < cols; col++) STORE(u + i * o + col * LANES, sums[i][col]);
}

/* Add V (6, WIDE, c) times dM (6, BLOCK, o), summed over `width` columns, to dU (6, 3, c, o). */
static void accumulate_kernel(const float *v, const float *m, float *u, long c, long o, long width) {
    for (long k = 0; k < PRODUCTS; k++)
        for (long x = 0; x < TAPS; x++)
            for (long i = 0; i < c; i += INPUTS)
                for (long j = 0; j < o; j += MOST_GRADIENT_COLS * LANES) {
                    const float *from = v + (k * WIDE + x) * c + i, *gradients = m + k * BLOCK * o + j;
                    float *to = u + ((k * TAPS + x) * c + i) * o + j;
                    switch (min(MOST_GRADIENT_COLS, (o - j) / LANES)) {
                        case 1: accumulate(from, gradients, to, c, o, width, 1); break;
                        default: accumulate(from, gradients, to, c, o, width, MOST_GRADIENT_COLS);
                    }
                }
}

/* Compute G^T dU for the floats `from` to `end` of each plane: dU (6, 3, c, o) -> (3, 3, c, o), kernel rows first. */
static void transform_kernel_gradient(const float *u, float *g, long plane, long from, long end) {
    for (long at = from; at < end; at++) {
        float even = u[at + plane] + u[at + 2 * plane], odd = u[at + 2 * plane] - u[at + plane];
        float even2 = u[at + 3 * plane] + u[at + 4 * plane], odd2 = u[at + 3 * plane] - u[at + 4 * plane];
        g[at] = u[at] / 4 - even / 6 + even2 / 24;
        g[at + plane] = odd / 6 + odd2 / 12;
        g[at + 2 * plane] = u[at + 5 * plane] - even / 6 + even2 / 6;
    }
}

/* Compute the gradient of the weight: x (n, h, w, c), y (n, h, w, o) -> g (3, 3, c, o).

Each thread sums over a fixed set of tiles, and the sums are added in a fixed order, so the result is deterministic. */
int winograd_weight_gradient(const float *x, const float *y, float *g, long n, long h, long w, long c, long o,
                             int threads) {
    long plane = TAPS * c * o, count = PRODUCTS * plane, tiles = (h + TILE - 1) / TILE;
    long block = block_of(w, n * tiles, 1), parts = min(min(threads, n * tiles), 1 + MOST_SUMS / count);
    float *sums = allocate_floats(parts * count);
    if (!sums) return 1;
    int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(threads) reduction(| : failed)
    for (long part = 0; part < parts; part++) {
        float *v = allocate_floats(PRODUCTS * WIDE * c), *m = allocate_floats(PRODUCTS * BLOCK * o);
        memset(sums + part * count, 0, sizeof(float) * count);
        int missing = !v || !m;
        failed |= missing;
        for (long tile = part * n * tiles / parts; tile < (part + 1) * n * tiles / parts && !missing; tile++) {
            long image = tile / tiles, top = tile % tiles * TILE;
            for (long left = 0; left < w; left += block) {
                long width = min(block, w - left);
                transform_input(x + image * h * w * c, h, w, c, top, left, block, v);
                transform_gradient(y + image * h * w * o, h, w, o, top, left, width, m);
                accumulate_kernel(v, m, sums + part * count, c, o, width);
            }
        }
        free(v);
        free(m);
    }
    if (!failed) {
#pragma omp parallel for num_threads(threads)
        for (long from = 0; from < plane; from += c) {
            for (long part = 1; part < parts; part++)
                for (long k = 0; k < PRODUCTS; k++)
                    for (long at = k * plane + from; at < k * plane + from + c; at++) sums[at] += sums[part * count + at];
            transform_kernel_gradient(sums, g, plane, from, from + c);
        }
    }
    free(sums);
    return failed;
}
