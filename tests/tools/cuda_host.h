// What the device source needs to compile for a host: one thread does all showers.
#include <cmath>
#include <cstring>
#define HOST
#define KERNEL extern "C" void
#define DEVICE static inline
#define NOT_INLINED static
#define LAUNCH_BOUNDS
#define SHARED
#define DYNAMIC_SHARED(name) static double name[1 << 12]
#define BLOCK 0
#define BLOCKS 1
#define FOR_EACH_INDEX(i, n) for (long long i = 0; i < (n); ++i)
#define SYNCHRONIZE
#define THREAD 0u
#define THREADS 1u
DEVICE unsigned long long multiply_high_low(unsigned a, unsigned b) { return (unsigned long long)a * b; }
DEVICE unsigned next_ticket(unsigned* ticket) { return (*ticket)++; }
DEVICE void raise_to(unsigned long long* most, unsigned long long value) { if (value > *most) *most = value; }
DEVICE void prefetch(const void*) {}
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
using std::fabs;
using std::floor;
using std::sqrt;
