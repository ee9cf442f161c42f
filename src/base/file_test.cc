#include "pare/base/file.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "pare/base/testing.h"

namespace pare {
namespace {

namespace fs = std::filesystem;
using pare::testing::get_file;
using pare::testing::put_file;
using pare::testing::TempDir;

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// No file may grow past `bytes`; a write beyond fails (EFBIG) as it does on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_limit_);
    rlimit limit = old_limit_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_limit_{};
  void (*old_handler_)(int);
};

TEST(MappedFile, HoldsTheBytesEvenAfterTheFileIsReplaced) {
  const TempDir dir;
  put_file(dir / "a", "first");
  std::shared_ptr<const std::byte> owner;
  {
    const MappedFile file(dir / "a");
    EXPECT_EQ(as_text(file.bytes()), "first");
    owner = file.bytes_owner();
  }
  write_file_atomically(dir / "a", "other");
  EXPECT_EQ(as_text({owner.get(), 5}), "first");
}

TEST(MappedFile, RefusesWhatCannotBeMapped) {
  const TempDir dir;
  put_file(dir / "empty", "");
  EXPECT_PARE_ERROR(MappedFile(dir / "empty"), kCorruptData, "empty");
  EXPECT_PARE_ERROR(MappedFile(dir / "missing"), kNotFound, "missing");
  EXPECT_PARE_ERROR(MappedFile(dir / "empty" / "below"), kNotFound, "below");
  EXPECT_PARE_ERROR(MappedFile(dir.path()), kIo, "is a folder");
  EXPECT_PARE_ERROR(MappedFile("/dev/zero"), kIo, "not a regular file");
}

TEST(ReadTextFile, ReturnsAllBytesUpToTheLimit) {
  const TempDir dir;
  for (const std::size_t size : {0U, 1U, 65'535U, 65'536U, 65'537U, 200'000U}) {
    std::string text(size, 'x');
    if (size > 0) text[size / 2] = '\0';
    put_file(dir / "a", text);
    EXPECT_EQ(read_text_file(dir / "a", size), text) << size;
    if (size == 0) continue;
    EXPECT_PARE_ERROR(read_text_file(dir / "a", size - 1), kCorruptData, "longer than") << size;
  }
}

TEST(ReadTextFile, StopsAtTheLimitOfAnEndlessFile) {
  EXPECT_PARE_ERROR(read_text_file("/dev/zero", 1000), kCorruptData, "longer than 1000 bytes");
}

TEST(ReadTextFile, SaysWhatIsNotThere) {
  const TempDir dir;
  EXPECT_PARE_ERROR(read_text_file(dir / "missing"), kNotFound, "missing");
  EXPECT_PARE_ERROR(read_text_file(dir.path()), kIo, "is a folder");
}

TEST(AtomicFileWriter, ShowsNothingBeforeCommitAndAllAfter) {
  const TempDir dir;
  put_file(dir / "a", "old");
  AtomicFileWriter writer(dir / "a");
  writer.write("new ");
  writer.write(std::as_bytes(std::span("text", 4)));
  EXPECT_EQ(get_file(dir / "a"), "old");
  writer.commit();
  EXPECT_EQ(get_file(dir / "a"), "new text");
  EXPECT_EQ(files_in(dir.path()), 1U);
}

TEST(AtomicFileWriter, LeavesNothingBehindWithoutCommit) {
  const TempDir dir;
  {
    AtomicFileWriter writer(dir / "a");
    writer.write("half");
    EXPECT_EQ(files_in(dir.path()), 1U);
    EXPECT_TRUE(fs::directory_iterator(dir.path())->path().string().ends_with(kTemporarySuffix));
  }
  EXPECT_EQ(files_in(dir.path()), 0U);
}

TEST(AtomicFileWriter, TwoWritersOfOneFileDoNotMix) {
  const TempDir dir;
  AtomicFileWriter first(dir / "a");
  AtomicFileWriter second(dir / "a");
  first.write("1111");
  second.write("22");
  second.commit();
  EXPECT_EQ(get_file(dir / "a"), "22");
  first.commit();
  EXPECT_EQ(get_file(dir / "a"), "1111");
}

TEST(AtomicFileWriter, FileThatMayNotGrowIsAnErrorAndLeavesTheOldOne) {
  const TempDir dir;
  put_file(dir / "a", "old");
  {
    const FileSizeLimit limit(1000);
    EXPECT_PARE_ERROR(write_file_atomically(dir / "a", std::string(5000, 'x')), kIo, "too large");
  }
  EXPECT_EQ(get_file(dir / "a"), "old");
  EXPECT_EQ(files_in(dir.path()), 1U);
}

// In a mount namespace of a child process, where a file system of 64 KiB can be filled without touching the machine's.
TEST(AtomicFileWriter, FullDiskIsAnErrorAndLeavesTheOldOne) {
  const TempDir dir;
  constexpr int kNoNamespace = 77;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(kNoNamespace);
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("none", dir.path().c_str(), "tmpfs", 0, "size=64k") != 0) ::_exit(kNoNamespace);
    put_file(dir / "a", "old");
    const auto error = pare::testing::error_of([&] { write_file_atomically(dir / "a", std::string(1 << 20, 'x')); });
    if (!pare::testing::is_error(error, ErrorCategory::kIo, "free some space")) ::_exit(1);
    if (get_file(dir / "a") != "old") ::_exit(2);
    ::_exit(files_in(dir.path()) == 1 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoNamespace) GTEST_SKIP() << "no mount namespaces on this machine";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(AtomicFileWriter, RefusesPlacesThatHoldNoFile) {
  const TempDir dir;
  put_file(dir / "file", "x");
  EXPECT_PARE_ERROR(write_file_atomically(dir / "missing/a", "x"), kIo, "missing/a");
  EXPECT_PARE_ERROR(write_file_atomically(dir / "file/a", "x"), kIo, "file/a");
  EXPECT_PARE_ERROR(write_file_atomically(dir.path(), "x"), kIo, "is a folder");
  EXPECT_PARE_ERROR(write_file_atomically(dir / "new/", "x"), kIo, "names no file");
  EXPECT_PARE_ERROR(write_file_atomically("", "x"), kIo, "names no file");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_PARE_ERROR(write_file_atomically(dir / "pipe", "x"), kIo, "not a regular file");
  EXPECT_TRUE(fs::is_fifo(dir / "pipe"));
}

TEST(AtomicFileWriter, RefusesAFolderWithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TempDir dir;
  ::chmod(dir.path().c_str(), 0500);
  EXPECT_PARE_ERROR(write_file_atomically(dir / "a", "x"), kIo, "permissions");
  EXPECT_PARE_ERROR(make_directories(dir.path()), kIo, "permissions");
}

TEST(AtomicFileWriter, WritesThroughASymbolicLink) {
  const TempDir dir;
  put_file(dir / "target", "old");
  fs::create_symlink("target", dir / "link");
  write_file_atomically(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(get_file(dir / "target"), "new");
}

TEST(AtomicFileWriterDeathTest, WritingAfterCommitIsOurBug) {
  const TempDir dir;
  AtomicFileWriter writer(dir / "a");
  writer.commit();
  EXPECT_DEATH(writer.write("more"), "file.cc");
}

TEST(MakeDirectories, CreatesParentsAndAcceptsWhatIsThere) {
  const TempDir dir;
  make_directories(dir / "a/b/c");
  EXPECT_TRUE(fs::is_directory(dir / "a/b/c"));
  make_directories(dir / "a/b/c");
  make_directories(dir / "a/b/");
}

TEST(MakeDirectories, SaysWhenAFileIsInTheWay) {
  const TempDir dir;
  put_file(dir / "a", "x");
  EXPECT_PARE_ERROR(make_directories(dir / "a"), kIo, "a file is in the way");
  EXPECT_PARE_ERROR(make_directories(dir / "a/b"), kIo, "cannot create the folder");
}

}  // namespace
}  // namespace pare
