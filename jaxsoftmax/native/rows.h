// The row kernels and what is handed to them; `rows.cc` is compiled once for each instruction set.
#pragma once
#include <cstdint>

namespace jaxsoftmax {

struct Bf16 {
  uint16_t bits;
};

// Arrays of one call, row after row: an array of the classes, or one number a row.
struct Call {
  const void* in[8];
  void* out[8];
  int64_t classes;
};

using Kernel = void (*)(const Call&, int64_t first, int64_t last);  // works on rows [first, last)

// One kernel for each dtype of the logits, and for distributions of that of the targets too.
struct Kernels {
  Kernel f32, bf16, bf16_with_f32;
};

struct Table {
  Kernels softmax, softmax_product, probabilities_product, log_softmax, log_softmax_transposed,
      mean, logsumexp, scaled_probabilities, label_loss, label_gradient, distribution_loss,
      distribution_gradient;
};

namespace avx2 {
extern const Table table;
}
namespace avx512 {
extern const Table table;
}

}  // namespace jaxsoftmax
