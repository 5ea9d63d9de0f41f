// What AddressSanitizer cannot see by itself: what ATen's products and masked instructions touch, and the borders
// between the pieces of one thread's memory. Without it there is nothing here.
#pragma once

#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace crosshead {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kChecked = true;

// Bytes that are about to be read or written behind the sanitizer's back.
inline void touched(const void* p, int64_t bytes) {
  void* bad = bytes > 0 ? __asan_region_is_poisoned(const_cast<void*>(p), bytes) : nullptr;
  if (bad != nullptr) static_cast<void>(*static_cast<volatile char*>(bad));  // it reports this read
}
// Bytes that nothing may touch until they are freed.
inline void forbid(char* from, char* to) { __asan_poison_memory_region(from, to - from); }
#else
constexpr bool kChecked = false;

inline void touched(const void*, int64_t) {}
inline void forbid(char*, char*) {}
#endif

// `rows` times `count` numbers, `row` apart.
template <class X>
inline void touched_rows(const X* p, int64_t rows, int64_t row, int64_t count) {
  if constexpr (kChecked) {
    for (int64_t i = 0; i < rows; ++i) touched(p + i * row, count * int64_t(sizeof(X)));
  }
}

}  // namespace crosshead
