// bench_link [--link=grpc|local] [--bytes=N] [--mebibytes=N] [--links=N]: how many bytes a second
// parcels carry from one process to another on this machine, and how long one takes alone.

#include <grpcpp/grpcpp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/link/landings.h"
#include "services/common/heap.h"
#include "services/common/incarnation.h"
#include "services/common/links.h"
#include "services/common/server.h"
#include "services/common/transfer_service.h"

namespace minicpmv {
namespace {

constexpr Incarnation kReceiver = {1};
constexpr uint64_t kSlot = 1;
// Parcels on their way at a time, of each link.
constexpr int kAhead = 8;

struct BenchOptions {
  std::string link = "grpc";
  int64_t bytes = 1 << 20;
  int64_t mebibytes = 4096;
  int links = 1;
};

// Has one place for each link and lets parcels overwrite each other in it.
class Counter final : public Landing {
 public:
  Counter(int64_t bytes, int links) : places_(links, std::vector<uint8_t>(bytes)) {}
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override {
    std::vector<uint8_t>& place = places_[static_cast<size_t>(label.index)];
    return std::vector<TensorView>{
        TensorView(place.data(), DType::kU8, Shape{static_cast<int64_t>(label.bytes)})};
  }
  void Landed(const ParcelLabel&, const absl::Status& status) override {
    CHECK(status.ok()) << status;
  }

 private:
  std::vector<std::vector<uint8_t>> places_;
};

class Receiver {
 public:
  explicit Receiver(const BenchOptions& options)
      : landings(kReceiver), counter_(options.bytes, options.links) {
    CHECK_EQ(landings.Open(counter_).slot, kSlot);
  }
  ~Receiver() {
    landings.Close(kSlot, [] {});
  }

  Landings landings;

 private:
  Counter counter_;
};

// A process of its own that receives until its parent ends.
class ReceivingProcess {
 public:
  explicit ReceivingProcess(const BenchOptions& options) {
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    pid_ = fork();  // before gRPC has started a thread
    CHECK_GE(pid_, 0);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      Receive(options, ends[1]);
    }
    close(ends[1]);
    char text[64] = {};
    CHECK_GT(read(ends[0], text, sizeof(text) - 1), 0);
    close(ends[0]);
    address_ = text;
  }
  ~ReceivingProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  const std::string& address() const { return address_; }

 private:
  [[noreturn]] static void Receive(const BenchOptions& options, int pipe) {
    Receiver receiver(options);
    LinkObserver observer;
    TransferOptions transfer;
    transfer.worker_id = "receiver";
    transfer.incarnation = kReceiver;
    TransferService service(transfer, receiver.landings, observer);
    const auto listen = ListenAddress::Reserve("127.0.0.1:0");
    CHECK(listen.ok()) << listen.status();
    const auto server = Server::Start(*listen, {}, {&service});
    CHECK(server.ok()) << server.status();
    const std::string& address = (*server)->address();
    CHECK_EQ(write(pipe, address.data(), address.size()), static_cast<ssize_t>(address.size()));
    close(pipe);
    while (true) pause();
  }

  pid_t pid_ = 0;
  std::string address_;
};

// Keeps so many parcels on their way by each link until enough bytes have landed.
class Sending {
 public:
  Sending(std::vector<Link*> links, int64_t bytes)
      : links_(std::move(links)), content_(static_cast<size_t>(bytes), 0x5a) {}

  // Seconds for `parcels` by each link, with `ahead` on their way.
  double Run(int64_t parcels, int ahead) {
    const absl::Time began = Clock::Monotonic().Now();
    {
      std::unique_lock<std::mutex> lock(mutex_);
      left_.assign(links_.size(), parcels);
      open_ = parcels * static_cast<int64_t>(links_.size());
    }
    for (size_t i = 0; i < links_.size(); ++i) {
      for (int k = 0; k < ahead; ++k) Next(i);
    }
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [this] { return open_ == 0; });
    return absl::ToDoubleSeconds(Clock::Monotonic().Now() - began);
  }

 private:
  void Next(size_t link) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (left_[link] == 0) return;
      --left_[link];
    }
    Parcel parcel;
    parcel.label.landing = {kReceiver, kSlot};
    parcel.label.index = static_cast<int64_t>(link);
    parcel.label.count = 1;
    parcel.label.dtype = DType::kU8;
    parcel.label.bytes = content_.size();
    parcel.content = {
        ConstTensorView(content_.data(), DType::kU8, Shape{static_cast<int64_t>(content_.size())})};
    links_[link]->Send(std::move(parcel), [this, link](const absl::Status& status) {
      CHECK(status.ok()) << status;
      Next(link);
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--open_ == 0) ended_.notify_one();
    });
  }

  const std::vector<Link*> links_;
  const std::vector<uint8_t> content_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<int64_t> left_;  // guarded by mutex_
  int64_t open_ = 0;           // guarded by mutex_
};

double ProcessorSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void Bench(const BenchOptions& options, const std::string& address) {
  Receiver own(options);
  LinkObserver observer;
  common::v1::Destination destination;
  destination.set_worker_id("receiver");
  destination.set_address(address);
  destination.mutable_landing()->set_incarnation(BytesOf(kReceiver));
  destination.mutable_landing()->set_slot(kSlot);

  std::vector<std::unique_ptr<Links>> senders;
  std::vector<Link*> links;
  for (int i = 0; i < options.links; ++i) {
    LinksOptions sender;
    sender.worker_id = options.link == "local" ? "receiver" : absl::StrCat("sender-", i);
    sender.incarnation = DrawIncarnation();
    senders.push_back(std::make_unique<Links>(sender, own.landings, observer));
    const absl::StatusOr<Link*> link = senders.back()->To(destination);
    CHECK(link.ok()) << link.status();
    links.push_back(*link);
  }
  Sending sending(links, options.bytes);
  sending.Run(8, 1);  // brings the links up

  const int64_t alone = 200;
  const double alone_seconds = Sending({links[0]}, options.bytes).Run(alone, 1);
  const int64_t parcels =
      std::max<int64_t>(1, options.mebibytes * (1 << 20) / options.bytes / options.links);
  const double processor_before = ProcessorSeconds();
  const double seconds = sending.Run(parcels, kAhead);
  const double total = static_cast<double>(parcels * options.links * options.bytes);
  std::printf(
      "%-6s %2d x %9lld bytes a parcel: %8.1f MB/s, %7.1f us a parcel alone, "
      "%.2f s of processor a GB at the sending end\n",
      options.link.c_str(), options.links, static_cast<long long>(options.bytes),
      total / seconds / 1e6, alone_seconds / alone * 1e6,
      (ProcessorSeconds() - processor_before) / (total / 1e9));
}

int Main(int argc, char** argv) {
  BenchOptions options;
  CLI::App app("Measures how fast parcels travel between two processes of this machine");
  app.add_option("--link", options.link, "The kind of link")
      ->check(CLI::IsMember({"grpc", "local"}))
      ->capture_default_str();
  app.add_option("--bytes", options.bytes, "Of one parcel")
      ->check(CLI::Range(int64_t{1}, kMaxParcelBytes))
      ->capture_default_str();
  app.add_option("--mebibytes", options.mebibytes, "To send in all")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--links", options.links, "That send at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  KeepFreedMemory();
  std::unique_ptr<ReceivingProcess> receiver;
  if (options.link == "grpc") receiver = std::make_unique<ReceivingProcess>(options);
  Bench(options, receiver != nullptr ? receiver->address() : "127.0.0.1:1");
  return 0;
}

}  // namespace
}  // namespace minicpmv

int main(int argc, char** argv) { return minicpmv::Main(argc, argv); }
