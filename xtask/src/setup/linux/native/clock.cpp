// mlx-rs seeds its random state from this macOS clock. Any clock that moves will do.
#include <cstdint>
#include <ctime>

extern "C" uint64_t mach_approximate_time() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}
