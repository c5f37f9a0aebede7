// The three BLAS functions MLX calls, handed on to OpenBLAS. The wheel's own reference BLAS is some twenty times slower;
// this library stands before it in the search order, so these definitions win.
//
// MLX asks for every product as a matrix by a matrix. A text that is being written has one row: OpenBLAS would copy the whole
// weight into blocks first, which takes longer than the product. Those go to the product of a matrix by a vector.
extern "C" {
void scipy_cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
void scipy_cblas_dgemm(int, int, int, int, int, int, double, const double*, int, const double*, int, double, double*, int);
void scipy_cblas_cgemm(int, int, int, int, int, int, const void*, const void*, int, const void*, int, const void*, void*, int);
void scipy_cblas_sgemv(int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
}

namespace {
// CBLAS's numbers for these.
constexpr int row_major = 101, as_stored = 111, transposed = 112;

// y = alpha op(matrix) x + beta y; the matrix is rows by columns as stored.
void product_by_vector(
    int trans, int rows, int columns, float alpha, const float* matrix, int ld,
    const float* x, int x_step, float beta, float* y, int y_step) {
  if (beta == 0) {
    // What lies there may be no number at all, and 0 times that is none either.
    const int y_len = trans == as_stored ? rows : columns;
    for (int i = 0; i < y_len; ++i) {
      y[static_cast<long>(i) * y_step] = 0;
    }
  }
  scipy_cblas_sgemv(row_major, trans, rows, columns, alpha, matrix, ld, x, x_step, beta, y, y_step);
}
} // namespace

extern "C" {
void cblas_sgemm(
    int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
    const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  if (order == row_major && m == 1 && k > 0) {
    // c = op(b)ᵀ a: a row of c, its elements side by side.
    const int step = trans_a == as_stored ? 1 : lda;
    const bool stored = trans_b == as_stored;
    return product_by_vector(
        stored ? transposed : as_stored, stored ? k : n, stored ? n : k, alpha, b, ldb, a, step, beta, c, 1);
  }
  if (order == row_major && n == 1 && k > 0) {
    const int step = trans_b == as_stored ? ldb : 1;
    const bool stored = trans_a == as_stored;
    return product_by_vector(trans_a, stored ? m : k, stored ? k : m, alpha, a, lda, b, step, beta, c, ldc);
  }
  scipy_cblas_sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void cblas_dgemm(
    int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
    const double* a, int lda, const double* b, int ldb, double beta, double* c, int ldc) {
  scipy_cblas_dgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void cblas_cgemm(
    int order, int trans_a, int trans_b, int m, int n, int k, const void* alpha,
    const void* a, int lda, const void* b, int ldb, const void* beta, void* c, int ldc) {
  scipy_cblas_cgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
}
