// Force-included before every mlx-c source. It supplies what mlx-c takes for granted on macOS:
// std::format (g++ before 13 has no <format>; mlx-c uses only "{}") and, off ARM, the two half types.
#pragma once
#include <version>
#ifdef __cpp_lib_format
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>
namespace std {
inline void mlxport_format(ostringstream& out, string_view rest) {
  out << rest;
}
template <typename First, typename... Others>
void mlxport_format(
    ostringstream& out,
    string_view rest,
    const First& first,
    const Others&... others) {
  const auto at = rest.find("{}");
  if (at == string_view::npos) {
    out << rest;
    return;
  }
  out << rest.substr(0, at) << first;
  mlxport_format(out, rest.substr(at + 2), others...);
}
template <typename... Arguments>
string format(string_view pattern, const Arguments&... arguments) {
  ostringstream out;
  mlxport_format(out, pattern, arguments...);
  return out.str();
}
} // namespace std
#endif

// MLX picks its own half types by the same macros that mlx-c's half.h asks for, so MLX is read first, without them.
#include <mlx/mlx.h>
#include <unistd.h> // mlx-c's file reader counts on Apple's headers for the POSIX calls.
#ifndef __aarch64__
#define __ARM_FEATURE_FP16_SCALAR_ARITHMETIC 1
#define __ARM_FEATURE_BF16 1
#endif
