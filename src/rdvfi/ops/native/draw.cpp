// Draws rows of frames on a CPU for `rdvfi.ops.native`. The definition is `rdvfi.ops.drawing`.
//
// Rows of the small maps are widened to full size, once for all rows drawn between them. Then a few
// hundred pixels at a time go through all steps while they are in the first cache. All loops but
// one are plain arithmetic on arrays, which compilers turn into vectors.
//
// The other one looks colours up. Images are packed, red, green and blue of a pixel side by side,
// so that one load of four values brings a whole corner (and a value of the next pixel, which is
// never used). A corner is multiplied by its weight, and a weight of 1 returns its colour exactly.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

namespace {

using Index = std::ptrdiff_t;
typedef float Pixel __attribute__((vector_size(16)));

constexpr int kMaps = 8;  // flow to the first image (x, y), to the last (x, y), share, residual
constexpr int kAtOnce = 256;

// Bilinear upsampling along an axis: the neighbours of a full-size pixel, the second one's share.
struct Neighbours {
  int first, second;
  float share;

  Neighbours(int pixel, int size, int small) {
    const double place = std::clamp((pixel + 0.5) * small / size - 0.5, 0.0, small - 1.0);
    first = static_cast<int>(place);
    second = std::min(first + 1, small - 1);
    share = static_cast<float>(place - first);
  }
};

// One row of the eight small maps of a time, widened to full size.
class WideRow {
 public:
  explicit WideRow(int width) : values_(static_cast<std::size_t>(kMaps) * width) {}

  // `row` counts the rows of all times.
  void hold(Index row, const float* maps, int height, int width,
            const std::vector<Neighbours>& columns) {
    if (row == row_) return;
    row_ = row;
    const Index time = row / height;
    float* to = values_.data();
    for (int k = 0; k < kMaps; ++k) {
      const float* from = maps + ((time * kMaps + k) * height + row % height) * width;
      for (const Neighbours& n : columns)
        *to++ = (1 - n.share) * from[n.first] + n.share * from[n.second];
    }
  }

  bool holds(Index row) const { return row == row_; }
  const float* data() const { return values_.data(); }

 private:
  Index row_ = -1;
  std::vector<float> values_;
};

// Corners and weights of some pixels' places in one image.
struct Places {
  int corner[kAtOnce];
  float weight[4][kAtOnce];

  void find(const float* dx, const float* dy, int left, int top, int count, int width, int height) {
    const float far_x = static_cast<float>(width - 1), far_y = static_cast<float>(height - 1);
    const int last_x = std::max(width - 2, 0), last_y = std::max(height - 2, 0);
    for (int i = 0; i < count; ++i) {
      float x = static_cast<float>(left + i) + dx[i], y = static_cast<float>(top) + dy[i];
      x = x > 0.0f ? x : 0.0f;  // what is not a number too
      y = y > 0.0f ? y : 0.0f;
      x = x < far_x ? x : far_x;
      y = y < far_y ? y : far_y;
      const int column = std::min(static_cast<int>(x), last_x);
      const int row = std::min(static_cast<int>(y), last_y);
      const float across = x - static_cast<float>(column), down = y - static_cast<float>(row);
      corner[i] = row * width + column;
      weight[0][i] = (1 - down) * (1 - across);
      weight[1][i] = (1 - down) * across;
      weight[2][i] = down * (1 - across);
      weight[3][i] = down * across;
    }
  }
};

inline Pixel load(const float* from) {
  Pixel value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

struct Image {
  const float* pixels;
  Index right, below;  // steps to the neighbours, 0 if there are none

  Image(const float* packed, int width, int height)
      : pixels(packed), right(width > 1 ? 3 : 0), below(height > 1 ? 3 * Index{width} : 0) {}

  Pixel at(const Places& places, int i) const {
    const float* corner = pixels + 3 * Index{places.corner[i]};
    return places.weight[0][i] * load(corner) + places.weight[1][i] * load(corner + right) +
           places.weight[2][i] * load(corner + below) +
           places.weight[3][i] * load(corner + below + right);
  }
};

}  // namespace

// Draws the rows `begin` to `end` of all `times * height` rows of frames (times, 3, height, width).
// Images are packed, (height, width, 3) and one value more, of less than 2^31 pixels; maps are
// (times, 8, small_height, small_width), flows in full-size pixels.
extern "C" void rdvfi_draw(const float* packed0, const float* packed1, const float* maps,
                           float* frames, int height, int width, int small_height, int small_width,
                           std::ptrdiff_t begin, std::ptrdiff_t end) {
  const Image first(packed0, width, height), last(packed1, width, height);
  std::vector<Neighbours> columns;
  for (int x = 0; x < width; ++x) columns.emplace_back(x, width, small_width);
  WideRow upper(width), lower(width);
  float full[kMaps][kAtOnce];
  Places places[2];
  Pixel colours[kAtOnce];

  for (Index row = begin; row < end; ++row) {
    const Index time = row / height;
    const int y = static_cast<int>(row % height);
    const Neighbours n(y, height, small_height);
    if (lower.holds(time * small_height + n.first)) std::swap(upper, lower);
    upper.hold(time * small_height + n.first, maps, small_height, small_width, columns);
    lower.hold(time * small_height + n.second, maps, small_height, small_width, columns);

    for (int left = 0; left < width; left += kAtOnce) {
      const int count = std::min(kAtOnce, width - left);
      for (int k = 0; k < kMaps; ++k) {
        const float* above = upper.data() + Index{k} * width + left;
        const float* under = lower.data() + Index{k} * width + left;
        for (int i = 0; i < count; ++i)
          full[k][i] = (1 - n.share) * above[i] + n.share * under[i];
      }
      places[0].find(full[0], full[1], left, y, count, width, height);
      places[1].find(full[2], full[3], left, y, count, width, height);
      for (int i = 0; i < count; ++i) {
        const float share = full[4][i];
        colours[i] = share * first.at(places[0], i) + (1 - share) * last.at(places[1], i);
      }
      for (int c = 0; c < 3; ++c) {
        float* out = frames + ((time * 3 + c) * height + y) * width + left;
        for (int i = 0; i < count; ++i) {
          float value = colours[i][c] + full[5 + c][i];
          value = value < 0.0f ? 0.0f : value;
          out[i] = value > 1.0f ? 1.0f : value;
        }
      }
    }
  }
}
