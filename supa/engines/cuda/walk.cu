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
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef HOST
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define NOT_INLINED __device__ __noinline__
#define LAUNCH_BOUNDS __launch_bounds__(128, BLOCKS_PER_SM)
#define SHARED __shared__
#define DYNAMIC_SHARED(name) extern __shared__ double name[]
#define FOR_EACH_INDEX(i, n) \
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < (n); i += gridDim.x * (i64)blockDim.x)
#define SYNCHRONIZE __syncthreads()
#define THREAD threadIdx.x
#define THREADS 128u
DEVICE u64 multiply_high_low(u32 a, u32 b) { return (u64)a * b; }
DEVICE void prefetch(const void* address) { asm volatile("prefetch.global.L1 [%0];" ::"l"(address)); }
#define BLOCK blockIdx.x
#define BLOCKS gridDim.x
DEVICE u32 next_ticket(u32* ticket) { return atomicAdd(ticket, 1u); }
DEVICE void raise_to(u64* most, u64 value) {
  if (value > *(volatile u64*)most) atomicMax(most, value);
}
DEVICE int highest_bit(u64 word) { return 63 - __clzll(word); }
DEVICE int highest_bit(u32 word) { return 31 - __clz(word); }
DEVICE u64 bits_of(double x) { return __double_as_longlong(x); }
DEVICE double from_bits(u64 x) { return __longlong_as_double(x); }
#endif

// Type of a path: u32 for up to 31 slices, u64 for more.
#ifndef PATH
#define PATH u64
#endif
typedef PATH Path;
// The place of a hit within its shower: u16 for up to 65,535 hits per shower, u32 for more.
#ifndef PLACE
#define PLACE u32
#endif
typedef PLACE Place;
#ifndef CUT
#define CUT (walk.critical_energy > 0.0)
#endif
// Whether particles are recorded besides hits.
#ifndef RECORD
#define RECORD false
#endif
#ifndef PARENT_FRAME
#define PARENT_FRAME walk.parent_frame
#endif
#ifndef BLOCKS_PER_SM
#define BLOCKS_PER_SM 5
#endif
#ifndef REAL
#define REAL double
#endif

const int MAX_SLICES = 62;
enum Fate { STOP = 0, SPLIT = 1, PASS = 2, LEAK = 3 };

struct alignas(16) FateWords {
  u64 stop, split;
};

// The numbers of a config. They are the first arguments of every kernel, in this order.
struct Walk {
  const FateWords* below;  // (num_slices,): a particle stops or splits if its word is below these
  const u32* code;         // (num_slices,): slice, and readout layer << 8
  const double* energies;  // the values of the energy distribution
  double slice_spacing, theta_start, theta_span, deviation, critical_energy;
  double polar_start, polar_span, polar_end, azimuth_start, azimuth_span, impact_spread, count_value;
  u64 seed;
  int num_slices, num_layers, balanced, parent_frame, energy_law, num_energies, count_law, complete_only;
};

#define WALK_PARAMETERS                                                                                              \
  const FateWords *below, const u32 *code, const double *energies, double slice_spacing, double theta_start,         \
      double theta_span, double deviation, double critical_energy, double polar_start, double polar_span,            \
      double polar_end, double azimuth_start, double azimuth_span, double impact_spread, double count_value,         \
      u64 seed, int num_slices, int num_layers, int balanced, int parent_frame, int energy_law, int num_energies,    \
      int count_law, int complete_only
#define DEFINE_WALK                                                                                                  \
  const Walk walk = {below,        code,       energies,      slice_spacing, theta_start,   theta_span,              \
                     deviation,    critical_energy, polar_start, polar_span, polar_end,     azimuth_start,           \
                     azimuth_span, impact_spread, count_value, seed,         num_slices,    num_layers,              \
                     balanced,     parent_frame, energy_law,  num_energies,  count_law,     complete_only}

// ---- Random numbers: supa/random.py ----

struct Words {
  u32 w0, w1, w2, w3;
};

DEVICE Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 product_0 = multiply_high_low(0xD2511F53u, c0), product_1 = multiply_high_low(0xCD9E8D57u, c2);
    const u32 n0 = (u32)(product_1 >> 32) ^ c1 ^ k0, n2 = (u32)(product_0 >> 32) ^ c3 ^ k1;
    c1 = (u32)product_1;
    c3 = (u32)product_0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

DEVICE Words draw(const Walk& walk, u64 index, u32 primary, u64 path) {
  return philox((u32)path, (u32)(path >> 32), (u32)index, ((u32)(index >> 32) << 8) | primary, (u32)walk.seed,
                (u32)(walk.seed >> 32));
}

const double TO_UNIT = 1.0 / 4294967296.0;

DEVICE double unit(u32 word) { return (double)word * TO_UNIT; }

// ---- Elementary functions: supa/elementary.py ----

DEVICE double sin_small(double x) {
  const double s = x * x;
  const double tail =
      -1.0 / 5040 + s * (1.0 / 362880 + s * (-1.0 / 39916800 + s * (1.0 / 6227020800.0 + s * (-1.0 / 1307674368000.0))));
  return x + x * s * (-1.0 / 6 + s * (1.0 / 120 + s * tail));
}

DEVICE double cos_small(double x) {
  const double s = x * x;
  const double tail = -1.0 / 3628800 + s * (1.0 / 479001600 + s * (-1.0 / 87178291200.0 + s * (1.0 / 20922789888000.0)));
  return 1.0 - 0.5 * s + s * s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 + s * tail)));
}

DEVICE void sin_cos_turn(u32 word, double& sine, double& cosine) {
  const double TURN = 2.0 * 3.141592653589793 / 4294967296.0;
  const u64 shifted = (u64)word + (1u << 29);
  const u32 quadrant = (u32)(shifted >> 30) & 3;
  const double angle = ((double)(i64)(shifted & ((1u << 30) - 1)) - 536870912.0) * TURN;
  const double s = sin_small(angle), c = cos_small(angle);
  const bool odd = quadrant & 1;
  sine = odd ? c : s;
  cosine = odd ? s : c;
  if (quadrant >= 2) sine = -sine;
  if (quadrant == 1 || quadrant == 2) cosine = -cosine;
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

// The incident energy and the number of primaries of each shower.
KERNEL draw_showers(WALK_PARAMETERS, i64 first, i64 count, double* incident_energy, i64* num_primaries) {
  DEFINE_WALK;
  FOR_EACH_INDEX(k, count) {
    const Words words = draw(walk, first + k, 0, INITIAL_PATH | SHOWER_BLOCK);
    const double u = unit(words.w0);
    if (walk.energy_law == 0)
      incident_energy[k] = walk.energies[(int)(u * walk.num_energies)];
    else if (walk.energy_law == 1)
      incident_energy[k] = walk.energies[0] + (walk.energies[1] - walk.energies[0]) * u;
    else
      incident_energy[k] = walk.energies[0] * exp_of(u * (log_of(walk.energies[1]) - log_of(walk.energies[0])));
    num_primaries[k] = walk.count_law ? truncated_poisson(walk.count_value, unit(words.w1)) : (i64)walk.count_value;
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

// Each block sums its part of the counts.
KERNEL sum_parts(i64 count, const i64* counts, i64* sums) {
  SHARED i64 partial[THREADS];
  const i64 part = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * part;
  const i64 end = begin + part < count ? begin + part : count;
  i64 sum = 0;
  for (i64 i = begin + THREAD; i < end; i += THREADS) sum += counts[i];
  partial[THREAD] = sum;
  SYNCHRONIZE;
  if (THREAD == 0) {
    for (u32 i = 1; i < THREADS; ++i) sum += partial[i];
    sums[BLOCK] = sum;
  }
}

// Replace each block's sum by the sum of all blocks before it, and append the sum of all.
KERNEL add_parts(i64 blocks, i64* sums) {
  if (THREAD != 0 || BLOCK != 0) return;
  i64 before = 0;
  for (i64 b = 0; b < blocks; ++b) {
    const i64 sum = sums[b];
    sums[b] = before;
    before += sum;
  }
  sums[blocks] = before;
}

// Write offsets: offset[k] is the sum of the first k counts.
KERNEL write_offsets(i64 count, const i64* counts, const i64* sums, i64* offset) {
  SHARED i64 running[THREADS];
  const i64 part = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * part;
  const i64 end = begin + part < count ? begin + part : count;
  i64 before = sums[BLOCK];
  if (THREAD == 0 && BLOCK == 0) offset[0] = 0;
  for (i64 start = begin; start < end; start += THREADS) {
    const i64 i = start + THREAD;
    i64 sum = i < end ? counts[i] : 0;
    running[THREAD] = sum;
    SYNCHRONIZE;
    for (u32 step = 1; step < THREADS; step *= 2) {
      const i64 left = THREAD >= step ? running[THREAD - step] : 0;
      SYNCHRONIZE;
      running[THREAD] += left;
      SYNCHRONIZE;
    }
    if (i < end) offset[i + 1] = before + running[THREAD];
    before += running[THREADS - 1];
    SYNCHRONIZE;
  }
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

// Count the hits of each slice of each shower. Store the fates of its first `fate_words` * 32 particles in depth-first
// order, two bits for each particle. A row of hits_of_slice has `row` entries, a multiple of 4.
KERNEL count_showers(WALK_PARAMETERS, i64 first, i64 count, const i64* primary_offset, const double* primary_energy,
                     u64* fates, int fate_words, int row, Place* hits_of_slice, u32* particles_of_slice, i64* num_hits,
                     i64* num_particles, u8* kept, i64 max_particles, u64* most_hits,
                     u64* too_large) {
  DEFINE_WALK;
  SHARED Tables tables;
  SHARED u32 ticket;
  DYNAMIC_SHARED(memory);
  u32* hits = (u32*)memory + THREAD;  // of slice l: hits[l * THREADS]
  if (THREAD == 0) ticket = 0;
  load_tables(walk, tables);
  const i64 part = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * part;
  const i64 end = begin + part < count ? begin + part : count;
  u32 particles[MAX_SLICES + 1];
  double sibling_energy[MAX_SLICES];
  i64 k = begin + next_ticket(&ticket), p = 0, p_end = 0, n = 0, leaks = 0;
  Path path = 0, pending = 0;
  u64 word = 0;
  int l = 0;
  u32 primary = 0;
  double energy = 1.0;
  bool fresh = true;  // whether shower k has no particle yet
  bool walking = false;
  // One iteration processes one particle. Nested loops would make all lanes of a warp wait for the largest shower.
  while (k < end) {
    if (!walking) {
      if (fresh) {
        p = primary_offset[k];
        p_end = primary_offset[k + 1];
        for (int s = 0; s < row; ++s) hits[s * THREADS] = 0;
        if (RECORD)
          for (int s = 0; s <= walk.num_slices; ++s) particles[s] = 0;
        word = 0;
        n = leaks = 0;
        primary = 0;
        fresh = false;
      }
      path = 1;
      pending = 0;
      l = 0;
      if (CUT) energy = primary_energy[p];
      walking = true;
    }
    const Words words = draw(walk, first + k, primary, path);
    const FateWords below = tables.below[l];
    const bool stops = words.w0 < below.stop || (CUT && energy < walk.critical_energy);
    const bool splits = !stops && words.w0 < below.split;
    word |= (u64)(stops ? STOP : splits ? SPLIT : PASS) << (2 * (n & 31));
    if ((n & 31) == 31) {
      if (n < 32ll * fate_words) fates[k * fate_words + (n >> 5)] = word;
      word = 0;
    }
    ++n;
    if (RECORD) particles[l] += 1;
    bool back = stops;
    if (stops) {
      hits[l * THREADS] += 1;
    } else {
      path <<= 1;
      l += 1;
      if (l == walk.num_slices) {
        leaks += splits ? 2 : 1;
        back = true;
      } else if (splits) {
        pending |= (Path)1 << l;
        if (CUT) {
          const double share = walk.balanced ? share_of(walk, words.w2) : 0.5;
          sibling_energy[l] = energy * (1.0 - share);
          energy = energy * share;
        }
      }
    }
    if (n >= max_particles) {  // stop this shower and report its number, counted from 1, to the host
      raise_to(too_large, (u64)k + 1);
      back = true;
      pending = 0;
      p = p_end - 1;
    }
    if (back) {
      if (pending != 0) {
        const int deepest = highest_bit(pending);
        pending ^= (Path)1 << deepest;
        path = (path >> (l - deepest)) | 1;
        l = deepest;
        if (CUT) energy = sibling_energy[l];
      } else {
        walking = false;
        ++p;
        ++primary;
        if (p == p_end) {
          if ((n & 31) != 0 && n < 32ll * fate_words) fates[k * fate_words + (n >> 5)] = word;
          u64 layers = 0;
          u32 total = 0;
          for (int s = 0; s < row; ++s) {
            const u32 here = hits[s * THREADS];
            hits_of_slice[k * row + s] = (Place)total;
            if (s < walk.num_slices) {
              const u32 layer = tables.code[s] >> 8;
              if (here && layer < 64) layers |= 1ull << layer;
            }
            total += here;
          }
          if (RECORD) {
            u32 sum = 0;
            for (int s = 0; s <= walk.num_slices; ++s) {
              particles_of_slice[k * (walk.num_slices + 1) + s] = sum;
              sum += particles[s];
            }
          }
          const bool keep = !walk.complete_only || layers == (1ull << walk.num_layers) - 1;
          kept[k] = keep;
          num_hits[k] = keep ? total : 0;
          raise_to(most_hits, total);
          num_particles[k] = keep ? n + leaks : 0;
          k = begin + next_ticket(&ticket);
          fresh = true;
        }
      }
    }
  }
}

struct Particle {
  double x, y, slope_x, slope_y, energy;
};

DEVICE void child_slopes(const Walk& walk, double sx, double sy, double sine, double cosine, double sine_phi,
                         double cosine_phi, double& child_x, double& child_y) {
  const double t_squared = 1.0 + sy * sy;
  const double t = sqrt(t_squared);
  const double n = sqrt(t_squared + sx * sx);
  const double over_t = 1.0 / t;
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
  const double steepest = 1e-3 * n, size = fabs(wz);
  const double over_wz = 1.0 / (size > steepest ? size : steepest);
  child_x = wx * over_wz;
  child_y = wy * over_wz;
}

// Split a particle: `now` becomes its first child in the next slice, `sibling` its second one.
DEVICE void split(const Walk& walk, const Words& words, Particle& now, Particle& sibling) {
  const double theta = walk.theta_start + walk.theta_span * unit(words.w1);
  const double share = share_of(walk, words.w2);
  double sine_phi, cosine_phi, sine, cosine;
  sin_cos_turn(words.w3, sine_phi, cosine_phi);
  const double sx = now.slope_x, sy = now.slope_y;
  sin_cos(theta * (1.0 - share), sine, cosine);
  child_slopes(walk, sx, sy, sine, cosine, sine_phi, cosine_phi, now.slope_x, now.slope_y);
  sin_cos(theta * share, sine, cosine);
  child_slopes(walk, sx, sy, -sine, cosine, sine_phi, cosine_phi, sibling.slope_x, sibling.slope_y);
  const double part = walk.balanced ? share : 0.5;
  sibling.energy = now.energy * (1.0 - part);
  sibling.x = now.x + walk.slice_spacing * sibling.slope_x;
  sibling.y = now.y + walk.slice_spacing * sibling.slope_y;
  now.energy = now.energy * part;
  now.x = now.x + walk.slice_spacing * now.slope_x;
  now.y = now.y + walk.slice_spacing * now.slope_y;
}

// Draw the fate of a particle. Not inlined, because only showers with more particles than stored fates use it.
NOT_INLINED int fate_of(const Walk& walk, const Tables& tables, u64 index, u32 primary, u64 path, int l, double energy) {
  const u32 word = draw(walk, index, primary, path).w0;
  if (word < tables.below[l].stop || (CUT && energy < walk.critical_energy)) return STOP;
  return word < tables.below[l].split ? SPLIT : PASS;
}

// A hit as write_showers writes it: one sector of memory, so that scattered writes move no more than their bytes.
struct alignas(16) Hit {
  double x, y, energy;
  u32 code;  // slice, layer and primary, one byte each
  u32 unused;
};

// A recorded particle, in the same form.
struct alignas(16) Node {
  double x, y, energy;
  int parent;
  u32 code;  // slice, fate and primary, one byte each
};

// Set each slice's cursor to the place of its first hit. A row is a multiple of 16 bytes.
DEVICE void load_cursors(const Place* starts, int row, Place* cursor) {
  const int PER_LOAD = 16 / sizeof(Place);
#pragma unroll 4
  for (int s = 0; s < row; s += PER_LOAD) {
    struct alignas(16) Chunk {
      Place places[PER_LOAD];
    };
    const Chunk chunk = *(const Chunk*)(starts + s);
#pragma unroll
    for (int i = 0; i < PER_LOAD; ++i) cursor[(s + i) * THREADS] = chunk.places[i];
  }
}

// Record a particle in its shower's nodes. Returns its number in the shower.
DEVICE int record(Node* nodes, u32* node_cursor, const Particle& p, int parent, int l, int fate, u32 primary) {
  const u32 at = node_cursor[l]++;
  nodes[at] = {p.x, p.y, p.energy, parent, (u32)l | (u32)fate << 8 | primary << 16};
  return (int)at;
}

// The stack of pending siblings: its lowest levels are in shared memory, the others in global memory.
DEVICE void push(double* stack, double* deep_stack, i64 deep_stride, int shared_depth, int depth, const Particle& p) {
  if (depth < shared_depth) {
    double* at = stack + 5 * depth * THREADS;
    at[0] = p.x;
    at[THREADS] = p.y;
    at[2 * THREADS] = p.slope_x;
    at[3 * THREADS] = p.slope_y;
    at[4 * THREADS] = p.energy;
  } else {
    double* at = deep_stack + 5 * (depth - shared_depth) * deep_stride;
    at[0] = p.x;
    at[deep_stride] = p.y;
    at[2 * deep_stride] = p.slope_x;
    at[3 * deep_stride] = p.slope_y;
    at[4 * deep_stride] = p.energy;
  }
}

DEVICE Particle pop(const double* stack, const double* deep_stack, i64 deep_stride, int shared_depth, int depth) {
  if (depth < shared_depth) {
    const double* at = stack + 5 * depth * THREADS;
    return {at[0], at[THREADS], at[2 * THREADS], at[3 * THREADS], at[4 * THREADS]};
  }
  const double* at = deep_stack + 5 * (depth - shared_depth) * deep_stride;
  return {at[0], at[deep_stride], at[2 * deep_stride], at[3 * deep_stride], at[4 * deep_stride]};
}

#ifndef CHEAP_STEPS
#define CHEAP_STEPS 2
#endif

// Walk the showers again and write each hit to its place.
//
// Further arguments: hit_offset and particle_offset (count + 1,), the place of each shower's first hit and particle;
// shared_depth, the number of levels of the stack in shared memory, and deep_stack, the others.
KERNEL LAUNCH_BOUNDS write_showers(WALK_PARAMETERS, i64 first, i64 count, const i64* primary_offset,
                                   const double* primaries, i64 total_primaries, const u64* stored_fates,
                                   int fate_words, int row, const Place* hits_of_slice, const u32* particles_of_slice,
                                   const i64* hit_offset, const i64* particle_offset, const u8* kept,
                                   double* leaked_energy, int shared_depth, double* deep_memory, Hit* hits,
                                   Node* nodes) {
  DEFINE_WALK;
  SHARED Tables tables;
  SHARED u32 ticket;
  DYNAMIC_SHARED(memory);
  double* stack = memory + THREAD;
  Place* cursor = (Place*)(memory + 5 * shared_depth * THREADS) + THREAD;
  double* deep_stack = deep_memory + (BLOCK * (i64)THREADS + THREAD);
  const i64 deep_stride = BLOCKS * (i64)THREADS;
  if (THREAD == 0) ticket = 0;
  load_tables(walk, tables);
  const i64 part = (count + BLOCKS - 1) / BLOCKS, begin = BLOCK * part;
  const i64 end = begin + part < count ? begin + part : count;
  const double* energy_of = primaries;
  const i64 total = total_primaries;
  const u32 stored = 32 * fate_words;
  i64 next;
  do next = begin + next_ticket(&ticket);
  while (next < end && !kept[next]);
  const u64* fates = 0;
  Path pending = 0, path = 0;
  u64 word = 0, next_word = 0;  // the next word is loaded 32 particles before it is used
  i64 k = -1, p = 0, p_end = 0, base = 0;
  u32 n = 0, primary = 0;
  int l = 0, depth = 0;
  double leaked = 0.0;
  Particle now = {0, 0, 0, 0, 0};
  u32 node_cursor[RECORD ? MAX_SLICES + 1 : 1];
  int pending_parent[RECORD ? MAX_SLICES : 1], parent = -1, number = 0;
  i64 node_base = 0;
  bool walking = false;
  for (;;) {
    if (!walking) {
      if (p == p_end) {
        if (k >= 0) leaked_energy[k] = leaked;
        k = next;
        if (k >= end) return;
        p = primary_offset[k];
        p_end = primary_offset[k + 1];
        base = hit_offset[k];
        fates = stored_fates + k * fate_words;
        next_word = fates[0];
        load_cursors(hits_of_slice + k * row, row, cursor);
        do next = begin + next_ticket(&ticket);
        while (next < end && !kept[next]);
        if (next < end) {
          prefetch(hits_of_slice + next * row);
          prefetch(hits_of_slice + next * row + row - 1);
          prefetch(stored_fates + next * fate_words);
          prefetch(primary_offset + next);
          prefetch(hit_offset + next);
        }
        if (RECORD) {
          node_base = particle_offset[k];
          for (int s = 0; s <= walk.num_slices; ++s)
            node_cursor[s] = particles_of_slice[k * (walk.num_slices + 1) + s];
        }
        leaked = 0.0;
        n = 0;
        primary = 0;
      }
      parent = -1;
      now = {energy_of[total + p], energy_of[2 * total + p], energy_of[3 * total + p], energy_of[4 * total + p],
             energy_of[p]};
      ++p;
      path = 1;
      pending = 0;
      depth = 0;
      l = 0;
      walking = true;
    }
    bool at_split = false;
#pragma unroll
    for (int step = 0; step < CHEAP_STEPS; ++step) {
      if (walking && !at_split) {
        int fate;
        if (n < stored) {
          if ((n & 31) == 0) {
            word = next_word;
            next_word = fates[(n >> 5) + 1];
          }
          fate = (int)word & 3;
          word >>= 2;
        } else {
          fate = fate_of(walk, tables, first + k, primary, path, l, now.energy);
        }
        ++n;
        if (RECORD) number = record(nodes + node_base, node_cursor, now, parent, l, fate, primary);
        at_split = fate == SPLIT;
        bool back = fate == STOP;
        if (back) {
          const u32 at = cursor[l * THREADS];
          cursor[l * THREADS] = (Place)(at + 1);
          hits[base + at] = {now.x, now.y, now.energy, tables.code[l] | primary << 16, 0};
        } else if (!at_split) {
          now.x = now.x + walk.slice_spacing * now.slope_x;
          now.y = now.y + walk.slice_spacing * now.slope_y;
          path <<= 1;
          l += 1;
          if (RECORD) parent = number;
          back = l == walk.num_slices;
          if (back) {
            leaked += now.energy;
            if (RECORD) record(nodes + node_base, node_cursor, now, parent, l, LEAK, primary);
          }
        }
        if (back) {
          walking = pending != 0;
          if (walking) {
            const int deepest = highest_bit(pending);
            pending ^= (Path)1 << deepest;
            path = (path >> (l - deepest)) | 1;
            l = deepest;
            now = pop(stack, deep_stack, deep_stride, shared_depth, --depth);
            if (RECORD) parent = pending_parent[depth];
          } else {
            ++primary;
          }
        }
      }
    }
    if (at_split) {
      Particle sibling;
      split(walk, draw(walk, first + k, primary, path), now, sibling);
      path <<= 1;
      l += 1;
      if (l < walk.num_slices) {
        pending |= (Path)1 << l;
        if (RECORD) pending_parent[depth] = parent = number;
        push(stack, deep_stack, deep_stride, shared_depth, depth++, sibling);
      } else {
        leaked += now.energy;
        leaked += sibling.energy;
        if (RECORD) {
          record(nodes + node_base, node_cursor, now, number, l, LEAK, primary);
          record(nodes + node_base, node_cursor, sibling, number, l, LEAK, primary);
        }
        walking = pending != 0;
        if (walking) {
          const int deepest = highest_bit(pending);
          pending ^= (Path)1 << deepest;
          path = (path >> (l - deepest)) | 1;
          l = deepest;
          now = pop(stack, deep_stack, deep_stride, shared_depth, --depth);
          if (RECORD) parent = pending_parent[depth];
        } else {
          ++primary;
        }
      }
    }
  }
}

// Copy records of hits into columns.
KERNEL part_hits(i64 count, const Hit* hits, REAL* x, REAL* y, REAL* energy, u8* slice, u8* layer, u8* primary) {
  FOR_EACH_INDEX(i, count) {
    const Hit hit = hits[i];
    x[i] = (REAL)hit.x;
    y[i] = (REAL)hit.y;
    energy[i] = (REAL)hit.energy;
    slice[i] = (u8)hit.code;
    layer[i] = (u8)(hit.code >> 8);
    primary[i] = (u8)(hit.code >> 16);
  }
}

// Copy records of particles into columns.
KERNEL part_nodes(i64 count, const Node* nodes, REAL* x, REAL* y, REAL* energy, int* parent, u8* slice, u8* fate,
                  u8* primary) {
  FOR_EACH_INDEX(i, count) {
    const Node node = nodes[i];
    x[i] = (REAL)node.x;
    y[i] = (REAL)node.y;
    energy[i] = (REAL)node.energy;
    parent[i] = node.parent;
    slice[i] = (u8)node.code;
    fate[i] = (u8)(node.code >> 8);
    primary[i] = (u8)(node.code >> 16);
  }
}
