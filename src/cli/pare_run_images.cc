#include "pare/cli/pare_run_images.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/format/idx.h"

namespace pare::cli {

namespace {

namespace fs = std::filesystem;

// The header of a binary PGM: "P5", width, height, largest grey level, one blank; "#" begins a comment (netpbm).
class PgmHeader {
 public:
  PgmHeader(std::string_view bytes, const fs::path& path) : bytes_(bytes), path_(path) {
    width_ = number("the width");
    height_ = number("the height");
    const std::int64_t levels = number("the largest grey level");
    if (levels > 255) {
      throw Error(ErrorCategory::kUnsupported, str_cat("grey levels up to ", levels, " take two bytes each"),
                  path.string(), "convert it to 8 bits");
    }
    ++at_;
  }

  [[nodiscard]] std::int64_t width() const { return width_; }
  [[nodiscard]] std::int64_t height() const { return height_; }
  [[nodiscard]] std::size_t size() const { return at_; }

 private:
  std::int64_t number(const char* what) {
    while (at_ < bytes_.size() && (is_blank(bytes_[at_]) || bytes_[at_] == '#')) {
      if (bytes_[at_] == '#') at_ = std::min(bytes_.find('\n', at_), bytes_.size());
      if (at_ < bytes_.size()) ++at_;
    }
    std::int64_t value = 0;
    const std::size_t first = at_;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9' && value < 100000; ++at_) {
      value = 10 * value + (bytes_[at_] - '0');
    }
    if (at_ == first || at_ >= bytes_.size() || !is_blank(bytes_[at_]) || value < 1) {
      throw Error(ErrorCategory::kCorruptData,
                  str_cat("the PGM header ends before ", what, " or has an impossible one"), path_.string());
    }
    return value;
  }

  static bool is_blank(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

  std::string_view bytes_;
  const fs::path& path_;
  std::size_t at_ = 2;
  std::int64_t width_ = 0;
  std::int64_t height_ = 0;
};

Error wrong_shape(const fs::path& path, const Shape& found, const Shape& wanted) {
  return {ErrorCategory::kInvalidArgument,
          str_cat("its images are ", to_string(found), ", but the model takes ", to_string(wanted),
                  " (channels, height, width)"),
          path.string()};
}

struct KnownSet {
  const char* name;
  const char* debian_folder;
  const char* debian_package;
  const char* images;  // ".gz" may follow
  const char* labels;
};
constexpr KnownSet kKnownSets[] = {{"fashion-mnist", "/usr/share/datasets/fashion-mnist", "dataset-fashion-mnist",
                                    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};

// The file or its compressed form; empty if neither is there.
fs::path find_file(const fs::path& folder, const std::string& name) {
  for (const fs::path& candidate : {folder / name, folder / (name + ".gz")}) {
    std::error_code ignored;
    if (fs::is_regular_file(candidate, ignored)) return candidate;
  }
  return {};
}

}  // namespace

Images read_images(const fs::path& path, const Shape& shape) {
  const auto elems = static_cast<std::size_t>(element_count(shape));
  {
    const MappedFile file(path);
    const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    if (bytes.size() > 2 && bytes.starts_with("P5") && std::isspace(static_cast<unsigned char>(bytes[2])) != 0) {
      const PgmHeader header(bytes, path);
      const Shape found{1, header.height(), header.width()};
      if (found != shape) throw wrong_shape(path, found, shape);
      if (bytes.size() - header.size() != elems) {
        throw Error(
            ErrorCategory::kCorruptData,
            str_cat("its header promises ", elems, " pixels, but ", bytes.size() - header.size(), " bytes follow"),
            path.string());
      }
      const std::string_view pixels = bytes.substr(header.size());
      return {1, {pixels.begin(), pixels.end()}};
    }
    if (bytes.size() == elems) return {1, {bytes.begin(), bytes.end()}};
  }
  format::IdxArray array = format::read_idx(path);
  Shape found(array.shape.begin() + 1, array.shape.end());
  if (found.size() == 2) found.insert(found.begin(), 1);
  if (found != shape) throw wrong_shape(path, found, shape);
  return {array.shape[0], std::move(array.data)};
}

std::vector<std::uint8_t> read_labels(const fs::path& path, std::int64_t count) {
  format::IdxArray array = format::read_idx(path);
  if (array.shape.size() != 1) {
    throw Error(ErrorCategory::kCorruptData,
                str_cat("it has shape ", to_string(array.shape), ", labels have one extent"), path.string(),
                "are images and labels swapped?");
  }
  if (array.shape[0] != count) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(array.shape[0], " labels for ", count, " images"),
                path.string(), "give the labels that belong to these images");
  }
  return std::move(array.data);
}

std::vector<std::string> known_test_set_names() {
  std::vector<std::string> names;
  for (const KnownSet& set : kKnownSets) names.emplace_back(set.name);
  return names;
}

TestSet known_test_set(const std::string& name) {
  for (const KnownSet& set : kKnownSets) {
    if (name != set.name) continue;
    std::vector<fs::path> folders;
    if (const char* const data = std::getenv("PARE_DATA"); data != nullptr && *data != '\0') {
      folders.insert(folders.end(), {fs::path(data), fs::path(data) / name});
    }
    folders.emplace_back(set.debian_folder);
    std::vector<std::string> looked_in;
    for (const fs::path& folder : folders) {
      TestSet found{find_file(folder, set.images), find_file(folder, set.labels)};
      if (!found.images.empty() && !found.labels.empty()) return found;
      looked_in.push_back(folder.string());
    }
    throw Error(
        ErrorCategory::kNotFound, str_cat("the test set is not in ", join(looked_in, ", ")), name,
        str_cat("install the Debian package ", set.debian_package, ", or set PARE_DATA to the folder that has it"));
  }
  throw Error(ErrorCategory::kInvalidArgument, str_cat("no set is called '", name, "'"), "--set",
              did_you_mean(name, known_test_set_names()));
}

}  // namespace pare::cli
