// Simulation of showers on a GPU, one thread per shower: the device source of the engine "cuda".
//
// A thread visits the particles of a shower depth first, first child before second child. It visits the particles of
// one slice in the order in which the breadth-first engines create them. The place of a hit is therefore the start of
// its slice plus a counter. There are two walks. count_showers draws the fates, stores two bits for each particle, and
// counts the hits of each slice. write_showers repeats the walk with the geometry and writes each hit to its place.
//
// Every float64 operation is one of supa/elementary.py, supa/physics.py, supa/primaries.py and supa/engines/tiles.py,
// in the same order, compiled without contraction. The results therefore have the same bits as in the engine "cpu".
//
// This file compiles for a GPU. With tests/tools/cuda_host.h in front of it, it compiles for the host.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef HOST
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define LAUNCH_BOUNDS(blocks) __launch_bounds__(128, blocks)
#define SHARED __shared__
#define DYNAMIC_SHARED(name) extern __shared__ double name[]
#define FOR_EACH_INDEX(i, n) \
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < (n); i += gridDim.x * (i64)blockDim.x)
#define SYNCHRONIZE __syncthreads()
#define THREAD threadIdx.x
#define THREADS 128u
#define LANE (threadIdx.x & 31u)
#define LANES 32u
#define BLOCK blockIdx.x
#define BLOCKS gridDim.x
#define CONSTANT __constant__
DEVICE u64 multiply_high_low(u32 a, u32 b) {  // one instruction, where a * b in C becomes two
  u64 product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
}
DEVICE void prefetch(const void* address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); }
DEVICE void prefetch_soon(const void* address) { asm volatile("prefetch.global.L1 [%0];" ::"l"(address)); }
#define RARELY(condition) __builtin_expect(condition, 0)
DEVICE u32 next_ticket(u32* ticket) { return atomicAdd(ticket, 1u); }
DEVICE void raise_to(u64* most, u64 value) { atomicMax(most, value); }
DEVICE int highest_bit(u64 word) {
  int bit;
  asm("bfind.u64 %0, %1;" : "=r"(bit) : "l"(word));
  return bit;
}
DEVICE int highest_bit(u32 word) {
  int bit;
  asm("bfind.u32 %0, %1;" : "=r"(bit) : "r"(word));
  return bit;
}
DEVICE u32 number_of_bits(u64 word) { return __popcll(word); }
DEVICE int lowest_bit(u32 word) { return __ffs(word) - 1; }
DEVICE u64 bits_of(double x) { return __double_as_longlong(x); }
DEVICE double from_bits(u64 x) { return __longlong_as_double(x); }
DEVICE double from_words(u32 high, u32 low) { return __hiloint2double(high, low); }
DEVICE u32 upper_word(double x) { return __double2hiint(x); }
DEVICE u32 lower_word(double x) { return __double2loint(x); }
// Memory that the threads of a block share. The address is opaque, because the compiler would compute it at each use.
typedef u32 Shared;
DEVICE Shared shared_address(const void* place) {
  u32 address = (u32)__cvta_generic_to_shared(place);
  asm volatile("" : "+r"(address));
  return address;
}
DEVICE void get(Shared at, double& x) { asm volatile("ld.shared.f64 %0, [%1];" : "=d"(x) : "r"(at)); }
DEVICE void get(Shared at, u32& x) { asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(at)); }
DEVICE void get(Shared at, u16& x) { asm volatile("ld.shared.u16 %0, [%1];" : "=h"(x) : "r"(at)); }
DEVICE void get(Shared at, u64& x, u64& y) {
  asm volatile("ld.shared.v2.u64 {%0, %1}, [%2];" : "=l"(x), "=l"(y) : "r"(at));
}
DEVICE void put(Shared at, double x) { asm volatile("st.shared.f64 [%0], %1;" ::"r"(at), "d"(x)); }
DEVICE void put(Shared at, u32 x) { asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(x)); }
DEVICE void put(Shared at, u16 x) { asm volatile("st.shared.u16 [%0], %1;" ::"r"(at), "h"(x)); }
DEVICE void increment(Shared at) { asm volatile("red.shared.add.u32 [%0], 1;" ::"r"(at)); }
// If `stored`, store a word at an address. If `wanted`, move the address by one word.
DEVICE void append_if(bool wanted, bool stored, u32*& to, u32 word) {
  asm volatile(
      "{ .reg .pred wanted, stored; setp.ne.u32 wanted, %2, 0; setp.ne.u32 stored, %3, 0;"
      "  @stored st.global.u32 [%0], %1; @wanted add.u64 %0, %0, 4; }"
      : "+l"(to)
      : "r"(word), "r"((u32)wanted), "r"((u32)stored)
      : "memory");
}
// Load a word that is needed later. The compiler would load it to another register and wait for it at once.
DEVICE void load_if(bool wanted, const u32* from, u32& word) {
  asm volatile("{ .reg .pred wanted; setp.ne.u32 wanted, %2, 0; @wanted ld.global.u32 %0, [%1]; }"
               : "+r"(word)
               : "l"(from), "r"((u32)wanted));
}
// The lower half of (high, low) >> shift.
DEVICE u32 shift_right(u32 low, u32 high, u32 shift) { return __funnelshift_r(low, high, shift); }
// Operations of all lanes of a warp together.
DEVICE u32 votes(bool vote) { return __ballot_sync(~0u, vote); }
DEVICE u32 number_of_votes(bool vote) { return __popc(__ballot_sync(~0u, vote)); }
DEVICE u32 from_lane(u32 value, u32 lane) { return __shfl_sync(~0u, value, lane); }
DEVICE i64 from_lane_below(i64 value, u32 distance) { return __shfl_up_sync(~0u, value, distance); }
DEVICE u32 union_of_lanes(u32 bits) {
#pragma unroll
  for (u32 step = 1; step < LANES; step *= 2) bits |= __shfl_xor_sync(~0u, bits, step);
  return bits;
}
DEVICE u32 sum_up_to_lane(u32 value) {
#pragma unroll
  for (u32 step = 1; step < LANES; step *= 2) {
    const u32 left = __shfl_up_sync(~0u, value, step);
    if (LANE >= step) value += left;
  }
  return value;
}
// 1 / x and sqrt(x), correctly rounded, for x far from the limits of float64. The operations are those of the compiler,
// without its branches for the other numbers, which would keep it from mixing the steps of several such operations. The
// approximations have 32 bits. Their lower words are those of the compiler, too: with 0 instead, the reciprocal of the
// largest number below a power of two would be rounded to the wrong side.
DEVICE double reciprocal_of(double x) {
  double y;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(x));
  y = from_words(upper_word(y), upper_word(x) + 0x300402u);
  double error = __fma_rn(-x, y, 1.0);
  error = __fma_rn(error, error, error);
  y = __fma_rn(y, error, y);
  error = __fma_rn(-x, y, 1.0);
  return __fma_rn(y, error, y);
}
DEVICE double root_of(double x) {
  double y;
  asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(x));
  y = from_words(upper_word(y), upper_word(x) + 0xFCB00000u);
  const double error = __fma_rn(x, -(y * y), 1.0);
  y = __fma_rn(__fma_rn(error, 0.375, 0.5), y * error, y);
  const double root = x * y;
  return __fma_rn(__fma_rn(root, -root, x), 0.5 * y, root);
}
#endif

// The program that compiles this file defines the following macros (class Macros in walker.py):
// PATH          type of a path: u32 for up to 31 slices, u64 for more
// PLACE         type of the place of a hit within its shower: u16 for up to 65,535 particles per shower, u32 for more
// REAL          type of the positions and energies in columns
// CUT           whether particles below the critical energy stop
// PARENT_FRAME  whether the children of a split are rotated in the frame of the parent
// RECORD        whether particles are recorded besides hits
// COUNT_BLOCKS, WALK_BLOCKS  number of blocks per multiprocessor
typedef PATH Path;
typedef PLACE Place;

const int MAX_SLICES = 62;
enum Fate { STOP = 0, SPLIT = 1, PASS = 2, LEAK = 3 };

struct alignas(16) FateWords {
  u64 stop, split;
};

const int ROUNDS = 10;

// The numbers of a config. They are the first arguments of every kernel, in this order.
struct Walk {
  const FateWords* below;  // (num_slices,): a particle stops or splits if its word is below these
  const u32* code;         // (num_slices,): slice, and readout layer << 8
  const double* energies;  // the values of the energy distribution
  double slice_spacing, theta_start, theta_span, deviation, critical_energy;
  double polar_start, polar_span, polar_end, azimuth_start, azimuth_span, impact_spread, count_value;
  u64 keys[ROUNDS];  // the key of each round of Philox: lower word, and upper word << 32
  int num_slices, num_layers, balanced, energy_law, num_energies, count_law, complete_only;
};

#define WALK_PARAMETERS                                                                                              \
  const FateWords *below, const u32 *code, const double *energies, double slice_spacing, double theta_start,         \
      double theta_span, double deviation, double critical_energy, double polar_start, double polar_span,            \
      double polar_end, double azimuth_start, double azimuth_span, double impact_spread, double count_value,         \
      u64 key_0, u64 key_1, u64 key_2, u64 key_3, u64 key_4, u64 key_5, u64 key_6, u64 key_7, u64 key_8, u64 key_9,   \
      int num_slices, int num_layers, int balanced, int energy_law, int num_energies, int count_law,                 \
      int complete_only
#define DEFINE_WALK                                                                                                  \
  const Walk walk = {below,         code,          energies,      slice_spacing, theta_start,   theta_span,           \
                     deviation,     critical_energy, polar_start, polar_span,    polar_end,     azimuth_start,        \
                     azimuth_span,  impact_spread, count_value,                                                      \
                     {key_0, key_1, key_2, key_3, key_4, key_5, key_6, key_7, key_8, key_9},                         \
                     num_slices,    num_layers,    balanced,      energy_law,    num_energies,  count_law,            \
                     complete_only}

// ---- Random numbers: supa/random.py ----

struct Words {
  u32 w0, w1, w2, w3;
};

// One round of Philox.
DEVICE void mix(u32& c0, u32& c1, u32& c2, u32& c3, u64 key) {
  const u64 product_0 = multiply_high_low(0xD2511F53u, c0), product_1 = multiply_high_low(0xCD9E8D57u, c2);
  c0 = (u32)(product_1 >> 32) ^ c1 ^ (u32)key;
  c2 = (u32)(product_0 >> 32) ^ c3 ^ (u32)(key >> 32);
  c1 = (u32)product_1;
  c3 = (u32)product_0;
}

DEVICE Words draw(const Walk& walk, u64 index, u32 primary, u64 path) {
  u32 c0 = (u32)path, c1 = (u32)(path >> 32), c2 = (u32)index, c3 = ((u32)(index >> 32) << 8) | primary;
#pragma unroll
  for (int round = 0; round < ROUNDS; ++round) mix(c0, c1, c2, c3, walk.keys[round]);
  return {c0, c1, c2, c3};
}

// What the first three rounds of Philox have in common for all paths of up to 32 bits of one primary.
struct Stream {
  u32 in_1, in_2, in_3, in_4;
};

DEVICE Stream stream_of(const Walk& walk, u64 index, u32 primary) {
  const u32 c2 = (u32)index, c3 = ((u32)(index >> 32) << 8) | primary;
  const u64 product_1 = multiply_high_low(0xCD9E8D57u, c2);
  const u64 product_0 = multiply_high_low(0xD2511F53u, (u32)(product_1 >> 32) ^ (u32)walk.keys[0]);
  return {c3 ^ (u32)(walk.keys[0] >> 32), (u32)product_1 ^ (u32)walk.keys[1],
          (u32)(product_0 >> 32) ^ (u32)(walk.keys[1] >> 32), (u32)product_0 ^ (u32)(walk.keys[2] >> 32)};
}

// The words of a path of up to 32 bits, equal to those of `draw`.
DEVICE Words draw(const Walk& walk, const Stream& stream, u32 path) {
  u64 product_0 = multiply_high_low(0xD2511F53u, path);
  u64 product_1 = multiply_high_low(0xCD9E8D57u, (u32)(product_0 >> 32) ^ stream.in_1);
  u32 c0 = (u32)(product_1 >> 32) ^ stream.in_2, c1 = (u32)product_1, c2 = (u32)product_0 ^ stream.in_3;
  product_0 = multiply_high_low(0xD2511F53u, c0);
  product_1 = multiply_high_low(0xCD9E8D57u, c2);
  c0 = (u32)(product_1 >> 32) ^ c1 ^ (u32)walk.keys[2];
  c2 = (u32)(product_0 >> 32) ^ stream.in_4;
  c1 = (u32)product_1;
  u32 c3 = (u32)product_0;
#pragma unroll
  for (int round = 3; round < ROUNDS; ++round) mix(c0, c1, c2, c3, walk.keys[round]);
  return {c0, c1, c2, c3};
}

const double TO_UNIT = 1.0 / 4294967296.0;

// word / 2^32, without the slow conversion of integers: the word is the fraction of a number from 2^20 to 2^20 + 1.
DEVICE double unit(u32 word) { return from_words(0x41300000u, word) - 1048576.0; }

// ---- Elementary functions: supa/elementary.py ----

// Terms of the series. In memory of constants they are operands of the arithmetic, and need no registers.
CONSTANT double SINE_TERMS[] = {-1.0 / 6,         1.0 / 120,          -1.0 / 5040,          1.0 / 362880,
                                -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0};
CONSTANT double COSINE_TERMS[] = {1.0 / 24,          -1.0 / 720,           1.0 / 40320,            -1.0 / 3628800,
                                  1.0 / 479001600, -1.0 / 87178291200.0, 1.0 / 20922789888000.0};
CONSTANT double STEEPEST = 1e-3;

DEVICE double sin_small(double x) {
  const double* c = SINE_TERMS;
  const double s = x * x;
  const double tail = c[2] + s * (c[3] + s * (c[4] + s * (c[5] + s * c[6])));
  return x + x * s * (c[0] + s * (c[1] + s * tail));
}

DEVICE double cos_small(double x) {
  const double* c = COSINE_TERMS;
  const double s = x * x;
  const double tail = c[3] + s * (c[4] + s * (c[5] + s * c[6]));
  return 1.0 - 0.5 * s + s * s * (c[0] + s * (c[1] + s * (c[2] + s * tail)));
}

DEVICE double with_sign_changed(double x, u32 sign_bit) { return from_words(upper_word(x) ^ sign_bit, lower_word(x)); }
DEVICE double absolute(double x) { return from_words(upper_word(x) & 0x7FFFFFFFu, lower_word(x)); }

DEVICE void sin_cos_turn(u32 word, double& sine, double& cosine) {
  const double TURN = 2.0 * 3.141592653589793 / 4294967296.0;
  const u32 shifted = word + (1u << 29);  // the quadrant is in the upper two bits
  // The lower 30 bits minus 2^29: they are the fraction of a number from 2^52.
  const double angle = (from_words(0x43300000u, shifted & ((1u << 30) - 1)) - 4503600164241408.0) * TURN;
  const double s = sin_small(angle), c = cos_small(angle);
  const bool odd = shifted & (1u << 30);
  sine = with_sign_changed(odd ? c : s, shifted & (1u << 31));
  cosine = with_sign_changed(odd ? s : c, (shifted + (1u << 30)) & (1u << 31));
}

DEVICE void sin_cos(double x, double& sine, double& cosine) {
  const double half = 0.5 * x;
  const double s = sin_small(half), c = cos_small(half);
  sine = 2.0 * s * c;
  cosine = 1.0 - 2.0 * s * s;
}

const double LN2_HIGH = 6.93147180369123816490e-01, LN2_LOW = 1.90821492927058770002e-10;

DEVICE double log_of(double x) {
  const u64 bits = bits_of(x);
  int exponent = (int)(bits >> 52) - 1022;
  double mantissa = from_bits((bits & 0x000FFFFFFFFFFFFFull) | 0x3FE0000000000000ull);
  if (mantissa < 0.7071067811865476) {
    mantissa *= 2.0;
    exponent -= 1;
  }
  const double f = (mantissa - 1.0) / (mantissa + 1.0);
  const double s = f * f;
  double series = 0.0;
  for (int odd = 23; odd > 1; odd -= 2) series = s * (1.0 / odd + series);
  return exponent * LN2_HIGH + (exponent * LN2_LOW + 2.0 * f * series + 2.0 * f);
}

DEVICE double exp_of(double x) {
  const double k = floor(x / 0.6931471805599453 + 0.5);
  const double r = (x - k * LN2_HIGH) - k * LN2_LOW;
  double series = 1.0;
  for (int n = 14; n > 0; --n) series = 1.0 + series * r / n;
  return series * from_bits((u64)((i64)k + 1023) << 52);
}

// ---- Initial conditions: supa/primaries.py ----

const u64 INITIAL_PATH = 1ull << 63;
enum Block { SHOWER_BLOCK = 0, DIRECTION_BLOCK = 1, SHARE_BLOCK = 2 };

DEVICE int truncated_poisson(double mean, double u) {
  int number = 1;
  double probability = mean * exp_of(-mean);
  double left = u * (1.0 - exp_of(-mean)) - probability;
  while (left >= 0.0 && number < 255) {
    number += 1;
    probability *= mean / number;
    left -= probability;
  }
  return number;
}

// What the host needs to know about a chunk.
struct Totals {
  u64 primaries, hits, particles, most_particles, too_large;
};

// The incident energy of each shower, and its number of primaries, or their offsets if the number is always the same.
// Set the totals to 0.
KERNEL draw_showers(WALK_PARAMETERS, i64 first, i64 count, double* incident_energy, u32* num_primaries,
                    i64* offset, Totals* totals) {
  DEFINE_WALK;
  if (THREAD == 0 && BLOCK == 0) {
    *totals = {};
    offset[0] = 0;
  }
  FOR_EACH_INDEX(k, count) {
    const Words words = draw(walk, first + k, 0, INITIAL_PATH | SHOWER_BLOCK);
    const double u = unit(words.w0);
    if (walk.energy_law == 0)
      incident_energy[k] = walk.energies[(int)(u * walk.num_energies)];
    else if (walk.energy_law == 1)
      incident_energy[k] = walk.energies[0] + (walk.energies[1] - walk.energies[0]) * u;
    else
      incident_energy[k] = walk.energies[0] * exp_of(u * (log_of(walk.energies[1]) - log_of(walk.energies[0])));
    if (walk.count_law)
      num_primaries[k] = truncated_poisson(walk.count_value, unit(words.w1));
    else
      offset[k + 1] = (k + 1) * (i64)walk.count_value;
  }
}

// The primaries of each shower: columns energy, x, y, slope_x, slope_y one after another, each of `total` values.
KERNEL draw_primaries(WALK_PARAMETERS, i64 first, i64 count, i64 total, const double* incident_energy,
                      const i64* offset, double* columns) {
  DEFINE_WALK;
  FOR_EACH_INDEX(k, count) {
    const i64 begin = offset[k], end = offset[k + 1];
    if (end - begin == 1) {
      columns[begin] = incident_energy[k];
    } else {
      double sum = 0.0;
      for (i64 i = begin; i < end; ++i) {
        const Words words = draw(walk, first + k, (u32)(i - begin), INITIAL_PATH | SHARE_BLOCK);
        columns[i] = -log_of(((double)words.w0 + 0.5) * TO_UNIT);
        sum += columns[i];
      }
      for (i64 i = begin; i < end; ++i) columns[i] *= incident_energy[k] / sum;
    }
    const bool on_axis = walk.impact_spread == 0.0 && walk.polar_end == 0.0;
    for (i64 i = begin; i < end; ++i) {
      double x = 0.0, y = 0.0, slope_x = 0.0, slope_y = 0.0;
      if (!on_axis) {
        const Words words = draw(walk, first + k, (u32)(i - begin), INITIAL_PATH | DIRECTION_BLOCK);
        double sine, cosine;
        const double radius = walk.impact_spread * sqrt(-2.0 * log_of(((double)words.w2 + 0.5) * TO_UNIT));
        sin_cos_turn(words.w3, sine, cosine);
        x = radius * cosine;
        y = radius * sine;
        sin_cos(walk.polar_start + walk.polar_span * (double)words.w0 * TO_UNIT, sine, cosine);
        const double slope = sine / cosine;
        sin_cos(0.25 * (walk.azimuth_start + walk.azimuth_span * (double)words.w1 * TO_UNIT), sine, cosine);
        for (int doubling = 0; doubling < 2; ++doubling) {
          const double s = 2.0 * sine * cosine;
          cosine = 1.0 - 2.0 * sine * sine;
          sine = s;
        }
        slope_x = slope * cosine;
        slope_y = slope * sine;
      }
      columns[total + i] = x;
      columns[2 * total + i] = y;
      columns[3 * total + i] = slope_x;
      columns[4 * total + i] = slope_y;
    }
  }
}

// ---- Sums of counts ----

// The sum of the values of all threads up to this one, within the block. `sums` has one element for each warp.
DEVICE i64 sum_up_to_thread(i64 value, i64* sums) {
  const u32 warp = THREAD / LANES;
  for (u32 step = 1; step < LANES; step *= 2) {
    const i64 left = from_lane_below(value, step);
    if (LANE >= step) value += left;
  }
  SYNCHRONIZE;
  if (LANE == LANES - 1) sums[warp] = value;
  SYNCHRONIZE;
  for (u32 w = 0; w < warp; ++w) value += sums[w];
  return value;
}

// Each block sums its part of the counts.
KERNEL sum_parts(i64 count, const u32* counts, i64* sums) {
  SHARED i64 of_warp[THREADS / LANES];
  const i64 part = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * part;
  const i64 end = begin + part < count ? begin + part : count;
  i64 sum = 0;
#pragma unroll 4
  for (i64 i = begin + THREAD; i < end; i += THREADS) sum += counts[i];
  sum = sum_up_to_thread(sum, of_warp);
  if (THREAD == THREADS - 1) sums[BLOCK] = sum;
}

// Write offsets: offset[k] is the sum of the first k counts. Write the sum of all counts as one of the totals.
KERNEL write_offsets(i64 count, const u32* counts, const i64* sums, i64* offset, i64* totals, int which) {
  SHARED i64 of_warp[THREADS / LANES];
  SHARED i64 last;
  const i64 part = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * part;
  const i64 end = begin + part < count ? begin + part : count;
  i64 before = 0;
  for (i64 b = THREAD; b < BLOCK; b += THREADS) before += sums[b];
  before = sum_up_to_thread(before, of_warp);
  if (THREAD == THREADS - 1) last = before;
  SYNCHRONIZE;
  before = last;
  if (THREAD == 0 && BLOCK == 0) offset[0] = 0;
  for (i64 start = begin; start < end; start += THREADS) {
    const i64 i = start + THREAD;
    const i64 sum = before + sum_up_to_thread(i < end ? counts[i] : 0, of_warp);
    if (i < end) offset[i + 1] = sum;
    if (THREAD == THREADS - 1) last = sum;
    SYNCHRONIZE;
    before = last;
  }
  if (THREAD == 0 && BLOCK == BLOCKS - 1) totals[which] = before;
}

// ---- The walk ----

// Tables that lanes read at different slices. Constant memory would serve one slice at a time.
struct Tables {
  FateWords below[MAX_SLICES];  // a particle stops or splits if its word is below these
  u32 code[MAX_SLICES];         // slice, and layer << 8
};

DEVICE void load_tables(const Walk& walk, Tables& tables) {
  for (int l = THREAD; l < walk.num_slices; l += THREADS) {
    tables.below[l] = walk.below[l];
    tables.code[l] = walk.code[l];
  }
  SYNCHRONIZE;
}

DEVICE double share_of(const Walk& walk, u32 word) {
  return (0.5 - walk.deviation) + 2.0 * walk.deviation * unit(word);
}

// The part of the showers that a block simulates. Its threads take them one after another.
struct Part {
  u32 begin, end;
};

DEVICE Part part_of_block(u32 count) {
  const u32 size = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * size;
  return {begin, begin + size < count ? begin + size : count};
}

// The random numbers of the particles of one primary.
struct Draws {
  Stream stream;  // for paths of up to 32 bits
  u64 index;
  u32 primary;
};

DEVICE Draws draws_of(const Walk& walk, u64 index, u32 primary) {
  return {stream_of(walk, index, primary), index, primary};
}

DEVICE Words draw(const Walk& walk, const Draws& draws, u32 path) { return draw(walk, draws.stream, path); }
DEVICE Words draw(const Walk& walk, const Draws& draws, u64 path) {
  return draw(walk, draws.index, draws.primary, path);
}

const u32 FATES_PER_WORD = 16;  // two bits for each particle
const u32 MOST_STEPS = 1024;    // number of particles after which a shower that is too large is found

// Count the hits of each slice of each shower. Store the fates of its first `fate_words` * 16 particles in depth-first
// order, and the largest number of particles. A row of hits_of_slice has `row` entries and is a multiple of 16 bytes.
KERNEL LAUNCH_BOUNDS(COUNT_BLOCKS)
    count_showers(WALK_PARAMETERS, i64 first, u32 count, const i64* primary_offset, const double* primary_energy,
                  u32* fates, u32 fate_words, u32 row, Place* hits_of_slice, u32* particles_of_slice, u32* num_hits,
                  u32* num_particles, u8* kept, u32 max_particles, Totals* totals) {
  DEFINE_WALK;
  SHARED Tables tables;
  SHARED u32 ticket;
  DYNAMIC_SHARED(memory);
  const u32 SLICE_BYTES = 4 * (THREADS + 1);  // lanes reach the counters of one thread without conflicts of banks
  const Shared hits_of_warp = shared_address((u32*)memory + (THREAD - LANE));
  const Shared hits = shared_address((u32*)memory + THREAD);  // of slice l: SLICE_BYTES * l further
  const Shared thresholds = shared_address(tables.below);
  const u32 stored = FATES_PER_WORD * fate_words;
  if (THREAD == 0) ticket = 0;
  load_tables(walk, tables);
  for (u32 s = 0; s < row; ++s) put(hits + SLICE_BYTES * s, 0u);
  const Part part = part_of_block(count);
  u32 particles[RECORD ? MAX_SLICES + 1 : 1];
  double sibling_energy[CUT ? MAX_SLICES : 1] = {};
  u32 k = 0, primary = 0, primaries = 0, n = 0, leaks = 0, most = 0, word = 0;
  i64 p = 0;
  u32* fate_at = 0;
  Draws draws = {};
  Path path = 1, pending = 0;
  int l = 0;
  double energy = 1.0;
  bool idle = true, done = true;
  for (;;) {
    // The lanes of a warp process one particle each, in convergence, until a shower is done.
    u32 finished = 0;
    for (u32 left = MOST_STEPS; left != 0 && finished == 0; --left) {
      if (!idle) {
        const Words words = draw(walk, draws, path);
        FateWords below;
        get(thresholds + (u32)sizeof(FateWords) * l, below.stop, below.split);
        const bool stops = words.w0 < below.stop || (CUT && energy < walk.critical_energy);
        const bool splits = !stops && words.w0 < below.split;
        const bool leaves = !stops && l + 1 == walk.num_slices;
        word = shift_right(word, stops ? STOP : splits ? SPLIT : PASS, 2);
        ++n;
        const bool full = n % FATES_PER_WORD == 0;
        append_if(full, full && n <= stored, fate_at, word);
        if (RECORD) {
          particles[l] += 1;
          if (leaves) leaks += splits ? 2 : 1;
        }
        if (stops) increment(hits + SLICE_BYTES * l);
        if (CUT && splits && !leaves) {
          const double share = walk.balanced ? share_of(walk, words.w2) : 0.5;
          sibling_energy[l + 1] = energy * (1.0 - share);
          energy = energy * share;
        }
        if (splits && !leaves) pending |= (Path)2 << l;
        if (stops || leaves) {
          // Bit 0 of `pending` is never set: without a pending sibling, the next particle is in slice 0.
          const bool ends = pending == 0;
          const int deepest = highest_bit(pending | 1);
          path = (path >> (l - deepest)) | 1;
          pending &= ~((Path)1 << deepest);
          l = deepest;
          if (CUT) energy = sibling_energy[l];
          if (ends) {
            ++primary;
            done = primary == primaries;
            if (!done) {
              draws = draws_of(walk, first + k, primary);
              if (CUT) energy = primary_energy[p + primary];
            }
          }
        } else {
          path <<= 1;
          l += 1;
        }
      }
      finished = votes(done);
    }
    if (!idle && n >= max_particles) done = true;  // the shower is abandoned if it is not done
    finished = votes(done);
    if (finished) {
      u32 of_lanes = finished & ~votes(idle);
      while (of_lanes) {
        const u32 lane = lowest_bit(of_lanes);
        of_lanes &= of_lanes - 1;
        const u32 here = from_lane(k, lane);
        u32 total = 0, layers_low = 0, layers_high = 0;
        for (u32 start = 0; start < row; start += LANES) {
          const u32 s = start + LANE;
          u32 number = 0;
          if (s < row) {
            const Shared at = hits_of_warp + SLICE_BYTES * s + 4 * lane;
            get(at, number);
            put(at, 0u);
          }
          const u32 sum = sum_up_to_lane(number);
          if (s < row) hits_of_slice[here * (u64)row + s] = (Place)(total + sum - number);
          total += from_lane(sum, LANES - 1);
          if (number && walk.complete_only) {
            const u32 layer = tables.code[s] >> 8;
            if (layer < 32) layers_low |= 1u << layer;
            else if (layer < 64) layers_high |= 1u << (layer - 32);
          }
        }
        bool keep = true;
        if (walk.complete_only) {
          const u64 layers = (u64)union_of_lanes(layers_high) << 32 | union_of_lanes(layers_low);
          keep = layers == (1ull << walk.num_layers) - 1;
        }
        if (LANE == 0) {
          kept[here] = keep;
          num_hits[here] = keep ? total : 0;
        }
        if (RECORD && LANE == lane) {
          u32 sum = 0;
          for (int s = 0; s <= walk.num_slices; ++s) {
            particles_of_slice[k * (i64)(walk.num_slices + 1) + s] = sum;
            sum += particles[s];
          }
          num_particles[k] = keep ? n + leaks : 0;
        }
      }
      if (done) {
        if (!idle) {
          if (n % FATES_PER_WORD != 0 && n <= stored)
            *fate_at = word >> (32 - 2 * (n % FATES_PER_WORD));
          if (n >= max_particles) raise_to(&totals->too_large, (u64)k + 1);  // the number of the shower, counted from 1
          most = n > most ? n : most;
        }
        k = part.begin + next_ticket(&ticket);
        idle = k >= part.end;
        done = false;
        if (!idle) {
          primaries = (u32)walk.count_value;
          p = k * (i64)primaries;
          if (walk.count_law) {
            p = primary_offset[k];
            primaries = (u32)(primary_offset[k + 1] - p);
          }
          fate_at = fates + k * (u64)fate_words;
          if (RECORD)
            for (int s = 0; s <= walk.num_slices; ++s) particles[s] = 0;
          draws = draws_of(walk, first + k, 0);
          if (CUT) energy = primary_energy[p];
          primary = n = leaks = word = 0;
          path = 1;
          pending = 0;
          l = 0;
        }
      }
      if (votes(idle) == votes(true)) break;
    }
  }
  raise_to(&totals->most_particles, most);
}

struct Particle {
  double x, y, slope_x, slope_y, energy;
};

// The slopes of a parent, and numbers that its children share: t = sqrt(1 + y^2), n = sqrt(1 + x^2 + y^2).
struct Slopes {
  double x, y, t, n, over_t;
};

DEVICE void child_slopes(const Slopes& parent, double sine, double cosine, double sine_phi, double cosine_phi,
                         double& child_x, double& child_y) {
  const double sx = parent.x, sy = parent.y, t = parent.t, n = parent.n, over_t = parent.over_t;
  const double dx = sine * cosine_phi, dy = sine * sine_phi;
  double wx, wy, wz;
  if (PARENT_FRAME) {
    const double along_t = dx * over_t;
    const double along_n = n * dy * over_t;
    wx = sx * cosine - t * dx;
    wy = sy * cosine + sx * sy * along_t - along_n;
    wz = cosine + sx * along_t + sy * along_n;
  } else {
    wx = sx * (sy * dy + cosine) * over_t - t * dx;
    wy = n * (sy * cosine - dy) * over_t;
    wz = sx * dx + sy * dy + cosine;
  }
  const double steepest = STEEPEST * n, size = absolute(wz);
  const double over_wz = reciprocal_of(size > steepest ? size : steepest);
  child_x = wx * over_wz;
  child_y = wy * over_wz;
}

// Split a particle: `now` becomes its first child in the next slice, `sibling` its second one.
DEVICE void split(const Walk& walk, const Words& words, Particle& now, Particle& sibling) {
  const double theta = walk.theta_start + walk.theta_span * unit(words.w1);
  const double share = share_of(walk, words.w2);
  double sine_phi, cosine_phi, sine, cosine;
  sin_cos_turn(words.w3, sine_phi, cosine_phi);
  const double t_squared = 1.0 + now.slope_y * now.slope_y, t = root_of(t_squared);
  const double n = root_of(t_squared + now.slope_x * now.slope_x);
  const Slopes parent = {now.slope_x, now.slope_y, t, n, reciprocal_of(t)};
  sin_cos(theta * (1.0 - share), sine, cosine);
  child_slopes(parent, sine, cosine, sine_phi, cosine_phi, now.slope_x, now.slope_y);
  sin_cos(theta * share, sine, cosine);
  child_slopes(parent, -sine, cosine, sine_phi, cosine_phi, sibling.slope_x, sibling.slope_y);
  const double part = walk.balanced ? share : 0.5;
  sibling.energy = now.energy * (1.0 - part);
  sibling.x = now.x + walk.slice_spacing * sibling.slope_x;
  sibling.y = now.y + walk.slice_spacing * sibling.slope_y;
  now.energy = now.energy * part;
  now.x = now.x + walk.slice_spacing * now.slope_x;
  now.y = now.y + walk.slice_spacing * now.slope_y;
}

// A hit or a recorded particle as write_showers writes it: one sector of memory in two stores. Scattered writes of
// whole sectors move no more than their bytes. Scattered writes of half a sector take longer, so float32 comes later.
struct alignas(16) Half {
  double first, second;
};
struct Record {
  Half position;
  Half energy_and_rest;  // the lower word of the rest has slice, layer or fate, and primary, one byte each
};

DEVICE void write(Record& record, const Particle& p, int parent, u32 code) {
  record.position = {p.x, p.y};
  record.energy_and_rest = {p.energy, from_words((u32)parent, code)};
}

// Set each slice's cursor to the place of its first hit. A row is a multiple of 16 bytes.
DEVICE void load_cursors(const Place* starts, u32 row, Shared cursor) {
  const u32 PER_LOAD = 16 / sizeof(Place);
  struct alignas(16) Chunk {
    Place places[PER_LOAD];
  };
#pragma unroll 4
  for (u32 s = 0; s < row; s += PER_LOAD) {
    const Chunk chunk = *(const Chunk*)(starts + s);
#pragma unroll
    for (u32 i = 0; i < PER_LOAD; ++i) put(cursor + (u32)sizeof(Place) * THREADS * (s + i), chunk.places[i]);
  }
}

// Record a particle in its shower's nodes. Returns its number in the shower.
DEVICE int record(Record* nodes, u32* node_cursor, const Particle& p, int parent, int l, int fate, u32 primary) {
  const u32 at = node_cursor[l]++;
  write(nodes[at], p, parent, (u32)l | (u32)fate << 8 | primary << 16);
  return (int)at;
}

const u32 PENDING_BYTES = 8 * THREADS, LEVEL_BYTES = 5 * PENDING_BYTES;
CONSTANT double MINUS_ZERO = -0.0;

// A number that was loaded from global memory. The lanes wait for it here, because the sum needs it. Otherwise they
// would wait where the number is used, which lanes with other numbers also run, and after a later load may have begun.
DEVICE double waited_for(double loaded) { return loaded + MINUS_ZERO; }

// A pending sibling in global memory: two sectors.
struct alignas(64) DeepPlace {
  double values[5];
};

// The pending siblings of a particle. The first ones are in shared memory, the others in global memory.
struct Stack {
  Shared top, limit;
  DeepPlace* deep;
  u32 deep_stride;
};

DEVICE DeepPlace* deep_place(const Stack& stack) {
  return stack.deep + (u32)(stack.top - stack.limit) / LEVEL_BYTES * (u64)stack.deep_stride;
}

DEVICE void push(Stack& stack, const Particle& p) {
  if (stack.top < stack.limit) {
    put(stack.top, p.x);
    put(stack.top + PENDING_BYTES, p.y);
    put(stack.top + 2 * PENDING_BYTES, p.slope_x);
    put(stack.top + 3 * PENDING_BYTES, p.slope_y);
    put(stack.top + 4 * PENDING_BYTES, p.energy);
  } else {
    DeepPlace* at = deep_place(stack);
    *at = {{p.x, p.y, p.slope_x, p.slope_y, p.energy}};
    prefetch_soon(at);  // stores do not bring it to the first-level cache
    prefetch_soon(at->values + 4);
  }
  stack.top += LEVEL_BYTES;
}

DEVICE void pop(Stack& stack, Particle& p) {
  stack.top -= LEVEL_BYTES;
  if (stack.top < stack.limit) {
    get(stack.top, p.x);
    get(stack.top + PENDING_BYTES, p.y);
    get(stack.top + 2 * PENDING_BYTES, p.slope_x);
    get(stack.top + 3 * PENDING_BYTES, p.slope_y);
    get(stack.top + 4 * PENDING_BYTES, p.energy);
  } else {
    const DeepPlace at = *deep_place(stack);
    p = {waited_for(at.values[0]), waited_for(at.values[1]), waited_for(at.values[2]), waited_for(at.values[3]),
         waited_for(at.values[4])};
  }
}

// Go back to the deepest pending sibling.
DEVICE void step_back(Path& path, Path& pending, int& l) {
  const int deepest = highest_bit(pending);
  pending ^= (Path)1 << deepest;
  path = (path >> (l - deepest)) | 1;
  l = deepest;
}

const int STEPS = 3;           // between two splits, a lane may pass, stop and go back this many times
const u32 START_BATCH = 4;     // number of lanes that begin a shower together
const u32 GO_BACK = LEAK + 1;  // what a lane does after a particle that has ended

// Walk the showers again and write each hit to its place.
//
// Further arguments: hit_offset and particle_offset (count + 1,), the place of each shower's first hit and particle;
// shared_depth, the number of pending siblings in shared memory, and deep_memory, for the others.
KERNEL LAUNCH_BOUNDS(WALK_BLOCKS)
    write_showers(WALK_PARAMETERS, i64 first, u32 count, const i64* primary_offset, const double* primary_columns,
                  i64 total_primaries, const u32* stored_fates, u32 fate_words, u32 row, const Place* hits_of_slice,
                  const u32* particles_of_slice, const i64* hit_offset, const i64* particle_offset, const u8* kept,
                  double* leaked_energy, u32 shared_depth, DeepPlace* deep_memory, Record* hits, Record* nodes) {
  DEFINE_WALK;
  SHARED Tables tables;
  SHARED u32 ticket;
  DYNAMIC_SHARED(memory);
  const Shared stack_start = shared_address(memory + THREAD);
  Stack stack = {stack_start, stack_start + LEVEL_BYTES * shared_depth, deep_memory + (BLOCK * THREADS + THREAD),
                 BLOCKS * THREADS};
  const Shared cursor = shared_address((Place*)(memory + 5 * shared_depth * THREADS) + THREAD);
  const Shared codes = shared_address(tables.code);
  const u32 PLACE_BYTES = sizeof(Place);
  if (THREAD == 0) ticket = 0;
  load_tables(walk, tables);
  const Part part = part_of_block(count);
  u32 k = 0, next = part.begin + next_ticket(&ticket);
  const u32* fate_at = 0;  // of the word after `upper`
  u32 lower = 0, upper = 0, n = 0, primary = 0, primaries = 0;
  Path pending = 0, path = 0;
  i64 p = 0;
  int l = 0;
  double leaked = 0.0;
  Draws draws = {};
  Particle now = {0, 0, 0, 0, 0};
  Record* hits_of_shower = 0;
  u32 node_cursor[RECORD ? MAX_SLICES + 1 : 1];
  int pending_parent[RECORD ? MAX_SLICES : 1], parent = -1, number = 0;
  Record* nodes_of_shower = 0;
  u32 walking = 0;
  bool started = false, finished = false;  // whether shower k exists, and whether there is no further one
  bool crossed = false;                    // whether the last round used the last fate of a word
  for (;;) {
    // Lanes wait for a new shower until there are a few of them, because all lanes wait for the lanes that load one.
    if (number_of_votes(!walking && !finished) >= START_BATCH || votes(walking) == 0) {
      if (!walking && !finished) {
        const bool fresh = primary == primaries;
        if (fresh) {
          if (started) leaked_energy[k] = leaked;
          if (walk.complete_only)
            while (next < part.end && !kept[next]) next = part.begin + next_ticket(&ticket);
          k = next;
          finished = k >= part.end;
          started = true;
          leaked = 0.0;
          n = primary = 0;
          primaries = (u32)walk.count_value;
          p = k * (i64)primaries;
          if (walk.count_law && !finished) {
            p = primary_offset[k];
            primaries = (u32)(primary_offset[k + 1] - p);
          }
        }
        if (!finished) {
          // All loads begin before the lanes wait for the first of them.
          const double* column = primary_columns + p + primary;
          const double x = column[total_primaries], y = column[2 * total_primaries];
          const double slope_x = column[3 * total_primaries], slope_y = column[4 * total_primaries];
          const double energy = column[0];
          if (fresh) {
            const i64 offset = hit_offset[k];
            fate_at = stored_fates + k * (u64)fate_words;
            crossed = false;
            lower = fate_at[0];
            upper = fate_at[1];
            fate_at += 2;
            load_cursors(hits_of_slice + k * (u64)row, row, cursor);
            hits_of_shower = hits + offset;
            if (RECORD) {
              nodes_of_shower = nodes + particle_offset[k];
              for (int s = 0; s <= walk.num_slices; ++s)
                node_cursor[s] = particles_of_slice[k * (i64)(walk.num_slices + 1) + s];
            }
            next = part.begin + next_ticket(&ticket);
            if (next < part.end) {
              prefetch(hits_of_slice + next * (u64)row);
              prefetch(stored_fates + next * (u64)fate_words);
              prefetch(hit_offset + next);
            }
          }
          now = {waited_for(x), waited_for(y), waited_for(slope_x), waited_for(slope_y), waited_for(energy)};
          parent = -1;
          path = 1;
          pending = 0;
          stack.top = stack_start;
          l = 0;
          draws = draws_of(walk, first + k, primary);
          walking = 1;
        }
      }
      if (votes(walking) == 0) return;
    }
    // The fates of the next particles of this lane. Where there is no particle, the fate is LEAK, which does nothing.
    u32 fates = walking ? shift_right(lower, upper, 2 * (n % FATES_PER_WORD)) : ~0u;
    // After the last fate of a word, a round does not need the next word but one, which arrives during this round.
    load_if(crossed, fate_at, upper);
    fate_at += crossed;
    const u32 before = n;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      u32 fate = fates & 3;
      if (fate == PASS) {
        if (RECORD) parent = record(nodes_of_shower, node_cursor, now, parent, l, PASS, primary);
        fates >>= 2;
        ++n;
        now.x = now.x + walk.slice_spacing * now.slope_x;
        now.y = now.y + walk.slice_spacing * now.slope_y;
        path <<= 1;
        l += 1;
        fate = fates & 3;
        if (RARELY(l == walk.num_slices)) {
          leaked += now.energy;
          if (RECORD) record(nodes_of_shower, node_cursor, now, parent, l, LEAK, primary);
          fate = GO_BACK;
        }
      }
      if (fate == STOP) {
        if (RECORD) record(nodes_of_shower, node_cursor, now, parent, l, STOP, primary);
        fates >>= 2;
        ++n;
        Place at;
        u32 slice_and_layer;
        get(cursor + PLACE_BYTES * THREADS * l, at);
        put(cursor + PLACE_BYTES * THREADS * l, (Place)(at + 1));
        get(codes + 4 * l, slice_and_layer);
        write(hits_of_shower[at], now, 0, slice_and_layer | primary << 16);
        fate = GO_BACK;
      }
      if (fate == GO_BACK) {
        if (pending != 0) {
          step_back(path, pending, l);
          pop(stack, now);
          if (RECORD) parent = pending_parent[number_of_bits(pending)];
        } else {
          walking = 0;
          ++primary;
          fates = ~0u;
        }
      }
    }
    const bool splits = (fates & 3) == SPLIT;
    n += splits;
    if (splits) {
      if (RECORD) number = record(nodes_of_shower, node_cursor, now, parent, l, SPLIT, primary);
      Particle sibling;
      split(walk, draw(walk, draws, path), now, sibling);
      path <<= 1;
      l += 1;
      if (l < walk.num_slices) {
        if (RECORD) pending_parent[number_of_bits(pending)] = parent = number;
        pending |= (Path)1 << l;
        push(stack, sibling);
      } else {
        leaked += now.energy;
        leaked += sibling.energy;
        if (RECORD) {
          record(nodes_of_shower, node_cursor, now, number, l, LEAK, primary);
          record(nodes_of_shower, node_cursor, sibling, number, l, LEAK, primary);
        }
        if (pending != 0) {
          step_back(path, pending, l);
          pop(stack, now);
          if (RECORD) parent = pending_parent[number_of_bits(pending)];
        } else {
          walking = 0;
          ++primary;
        }
      }
    }
    crossed = (n ^ before) & FATES_PER_WORD;
    lower = crossed ? upper : lower;
  }
}

// Copy records of hits into columns. A thread copies two hits, so that it stores at least two bytes.
KERNEL part_hits(i64 count, const Record* hits, REAL* x, REAL* y, REAL* energy, u8* slice, u8* layer, u8* primary) {
  struct alignas(2 * sizeof(REAL)) Reals {
    REAL of[2];
  };
  struct alignas(2) Bytes {
    u8 of[2];
  };
  FOR_EACH_INDEX(pair, count / 2) {
    Reals xs, ys, energies;
    Bytes slices, layers, primaries;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Record hit = hits[2 * pair + j];
      const u32 code = lower_word(hit.energy_and_rest.second);
      xs.of[j] = (REAL)hit.position.first;
      ys.of[j] = (REAL)hit.position.second;
      energies.of[j] = (REAL)hit.energy_and_rest.first;
      slices.of[j] = (u8)code;
      layers.of[j] = (u8)(code >> 8);
      primaries.of[j] = (u8)(code >> 16);
    }
    ((Reals*)x)[pair] = xs;
    ((Reals*)y)[pair] = ys;
    ((Reals*)energy)[pair] = energies;
    ((Bytes*)slice)[pair] = slices;
    ((Bytes*)layer)[pair] = layers;
    ((Bytes*)primary)[pair] = primaries;
  }
  FOR_EACH_INDEX(last, count % 2) {
    const i64 i = count - 1 - last;
    const u32 code = lower_word(hits[i].energy_and_rest.second);
    x[i] = (REAL)hits[i].position.first;
    y[i] = (REAL)hits[i].position.second;
    energy[i] = (REAL)hits[i].energy_and_rest.first;
    slice[i] = (u8)code;
    layer[i] = (u8)(code >> 8);
    primary[i] = (u8)(code >> 16);
  }
}

// Copy records of particles into columns.
KERNEL part_nodes(i64 count, const Record* nodes, REAL* x, REAL* y, REAL* energy, int* parent, u8* slice, u8* fate,
                  u8* primary) {
  FOR_EACH_INDEX(i, count) {
    const Record node = nodes[i];
    const u32 code = lower_word(node.energy_and_rest.second);
    x[i] = (REAL)node.position.first;
    y[i] = (REAL)node.position.second;
    energy[i] = (REAL)node.energy_and_rest.first;
    parent[i] = (int)upper_word(node.energy_and_rest.second);
    slice[i] = (u8)code;
    fate[i] = (u8)(code >> 8);
    primary[i] = (u8)(code >> 16);
  }
}
