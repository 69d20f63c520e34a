// What XLA calls: a handler for each kernel, the choice of the instruction set, and the threads.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "rows.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jaxsoftmax {
namespace {

const Table* best_table() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return &avx512::table;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2::table;
  return nullptr;
}
const Table* chosen = best_table();

// The rows of one call, in parts that threads take one after another.
struct Work {
  Call call;
  Kernel kernel;
  int64_t rows, step;
  std::atomic<int64_t> next{0}, done{0};
  std::mutex mutex;
  std::condition_variable finished;

  void take() {
    for (int64_t first; (first = next.fetch_add(step)) < rows;) {
      int64_t last = std::min(first + step, rows);
      kernel(call, first, last);
      if (done.fetch_add(last - first) + (last - first) == rows) {
        std::lock_guard<std::mutex> lock(mutex);
        finished.notify_all();
      }
    }
  }
};

constexpr int64_t kWorthSharing = 1 << 16;  // entries: some 20 microseconds of work
constexpr int64_t kGroup = 16;              // short rows are taken in groups of this many

void run(ffi::ThreadPool pool, Kernel kernel, const Call& call, int64_t rows) {
  int64_t threads = pool.num_threads();
  if (threads <= 1 || rows * call.classes < kWorthSharing || rows < 2) return kernel(call, 0, rows);
  auto work = std::make_shared<Work>();
  work->call = call, work->kernel = kernel, work->rows = rows;
  int64_t step = (rows + 4 * threads - 1) / (4 * threads);
  work->step = call.classes <= 4 * kGroup ? (step + kGroup - 1) / kGroup * kGroup : step;
  int64_t parts = (rows + work->step - 1) / work->step;
  for (int64_t i = 1; i < std::min(threads, parts); ++i) pool.Schedule([work] { work->take(); });
  work->take();  // what nobody has begun is done here, so that a busy pool cannot hold a call up
  std::unique_lock<std::mutex> lock(work->mutex);
  work->finished.wait(lock, [&] { return work->done.load() == rows; });
}

// Fresh memory comes in pages of 4 kB, each with a fault of its own, unless huge ones are asked for.
constexpr size_t kManyPages = 4 << 20;
void ask_for_huge_pages(void* data, size_t bytes) {
  if (bytes < kManyPages) return;
  uintptr_t first = ((uintptr_t)data + 4095) & ~(uintptr_t)4095;
  uintptr_t last = ((uintptr_t)data + bytes) & ~(uintptr_t)4095;
  madvise((void*)first, last - first, MADV_HUGEPAGE);
}

ffi::Error handle(ffi::ThreadPool pool, const Kernels& kernels, ffi::RemainingArgs args,
                  ffi::RemainingRets results) {
  Call call{};
  auto logits = args.get<ffi::AnyBuffer>(0);
  if (logits.has_error()) return logits.error();
  call.classes = logits->dimensions().back();
  bool wide_targets = false;
  for (size_t i = 0; i < args.size(); ++i) {
    auto array = args.get<ffi::AnyBuffer>(i);
    call.in[i] = array->untyped_data();
    wide_targets |= i == 1 && array->element_type() == ffi::F32;
  }
  for (size_t i = 0; i < results.size(); ++i) {
    auto array = *results.get<ffi::AnyBuffer>(i);
    call.out[i] = array->untyped_data();
    ask_for_huge_pages(call.out[i], array->size_bytes());
  }
  bool half = logits->element_type() == ffi::BF16;
  Kernel kernel = !half                                        ? kernels.f32
                  : wide_targets && kernels.bf16_with_f32 ? kernels.bf16_with_f32
                                                               : kernels.bf16;
  if (logits->element_count())
    run(pool, kernel, call, (int64_t)logits->element_count() / call.classes);
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jaxsoftmax

extern "C" {
// The version of XLA's interface that this was compiled with, and the instruction set in use.
int jaxsoftmax_ffi_minor() { return XLA_FFI_API_MINOR; }
const char* jaxsoftmax_instructions() {
  using namespace jaxsoftmax;
  return chosen == &avx512::table ? "AVX-512" : chosen == &avx2::table ? "AVX2" : nullptr;
}
// For tests: AVX2 on a machine with AVX-512 too; and a kernel as it stands, on rows [first, last).
void jaxsoftmax_use_avx2(int yes) {
  using namespace jaxsoftmax;
  chosen = yes && chosen ? &avx2::table : best_table();
}
void jaxsoftmax_rows(int kernel, int dtypes, const void* const* in, void* const* out,
                     int64_t classes, int64_t first, int64_t last) {
  using namespace jaxsoftmax;
  const Kernels& kernels = reinterpret_cast<const Kernels*>(chosen)[kernel];
  Call call{};
  std::copy_n(in, std::size(call.in), call.in), std::copy_n(out, std::size(call.out), call.out);
  call.classes = classes;
  (dtypes == 0 ? kernels.f32 : dtypes == 1 ? kernels.bf16 : kernels.bf16_with_f32)(call, first, last);
}
}

#define HANDLER(name)                                                                    \
  static ffi::Error name##_handler(ffi::ThreadPool pool, ffi::RemainingArgs args,        \
                                   ffi::RemainingRets results) {                         \
    return jaxsoftmax::handle(pool, jaxsoftmax::chosen->name, args, results);            \
  }                                                                                      \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                         \
      jaxsoftmax_##name, name##_handler,                                                 \
      ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets());
HANDLER(softmax)
HANDLER(softmax_product)
HANDLER(probabilities_product)
HANDLER(log_softmax)
HANDLER(log_softmax_transposed)
HANDLER(mean)
HANDLER(logsumexp)
HANDLER(scaled_probabilities)
HANDLER(label_loss)
HANDLER(label_gradient)
HANDLER(distribution_loss)
HANDLER(distribution_gradient)
