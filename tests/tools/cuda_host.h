// What the device source needs to compile for a host: one thread does all showers.
#include <cmath>
#include <cstring>
#define HOST
#define KERNEL extern "C" void
#define DEVICE static inline
#define LAUNCH_BOUNDS(blocks)
#define SHARED
#define DYNAMIC_SHARED(name) static double name[1 << 12]
#define BLOCK 0
#define BLOCKS 1
#define FOR_EACH_INDEX(i, n) for (long long i = 0; i < (n); ++i)
#define SYNCHRONIZE
#define THREAD 0u
#define THREADS 1u
#define LANE 0u
#define LANES 1u
DEVICE unsigned long long multiply_high_low(unsigned a, unsigned b) { return (unsigned long long)a * b; }
DEVICE unsigned next_ticket(unsigned* ticket) { return (*ticket)++; }
DEVICE void raise_to(unsigned long long* most, unsigned long long value) { if (value > *most) *most = value; }
DEVICE void prefetch(const void*) {}
DEVICE void prefetch_soon(const void*) {}
#define RARELY(condition) (condition)
DEVICE int highest_bit(unsigned long long word) { return 63 - __builtin_clzll(word); }
DEVICE int highest_bit(unsigned word) { return 31 - __builtin_clz(word); }
DEVICE unsigned long long bits_of(double x) {
  unsigned long long bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
DEVICE double from_bits(unsigned long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
DEVICE double from_words(unsigned high, unsigned low) { return from_bits((unsigned long long)high << 32 | low); }
DEVICE unsigned upper_word(double x) { return (unsigned)(bits_of(x) >> 32); }
DEVICE unsigned lower_word(double x) { return (unsigned)bits_of(x); }
#define CONSTANT static const
typedef char* Shared;
DEVICE Shared shared_address(const void* place) { return (char*)place; }
template <class T> DEVICE void get(Shared at, T& x) { std::memcpy(&x, at, sizeof x); }
template <class T> DEVICE void put(Shared at, T x) { std::memcpy(at, &x, sizeof x); }
DEVICE void increment(Shared at) { ++*(unsigned*)at; }
DEVICE void get(Shared at, unsigned long long& x, unsigned long long& y) {
  get(at, x);
  get(at + sizeof x, y);
}
DEVICE void append_if(bool wanted, bool stored, unsigned*& to, unsigned word) {
  if (stored) *to = word;
  to += wanted;
}
DEVICE void load_if(bool wanted, const unsigned* from, unsigned& word) { if (wanted) word = *from; }
DEVICE unsigned number_of_bits(unsigned long long word) { return __builtin_popcountll(word); }
DEVICE int lowest_bit(unsigned word) { return __builtin_ctz(word); }
DEVICE unsigned shift_right(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)((((unsigned long long)high << 32) | low) >> (shift & 31));
}
DEVICE unsigned votes(bool vote) { return vote; }
DEVICE unsigned number_of_votes(bool vote) { return vote; }
DEVICE unsigned from_lane(unsigned value, unsigned) { return value; }
DEVICE long long from_lane_below(long long value, unsigned) { return value; }
DEVICE unsigned union_of_lanes(unsigned bits) { return bits; }
DEVICE unsigned sum_up_to_lane(unsigned value) { return value; }
DEVICE double reciprocal_of(double x) { return 1.0 / x; }
DEVICE double root_of(double x) { return std::sqrt(x); }
using std::fabs;
using std::floor;
using std::sqrt;
