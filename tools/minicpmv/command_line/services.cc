#include "tools/minicpmv/command_line/subcommands.h"

#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/blame.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/fleet_names.h"
#include "tools/minicpmv/command_line/model_flags.h"
#include "tools/minicpmv/command_line/values.h"
#include "tools/minicpmv/service_settings.h"

namespace minicpmv {
namespace {

using common::v1::Role;
using common::v1::ROLE_DECODE;
using common::v1::ROLE_PREFILL;
using common::v1::ROLE_VISION;

constexpr char kProcess[] = "Process", kWorker[] = "Worker", kRouter[] = "Router",
               kGateway[] = "HTTP";
constexpr char kFarPort[] = "127.0.0.1:50070";  // where clients look for a router
constexpr char kAnyPort[] = "127.0.0.1:0";
constexpr char kHttpPort[] = "127.0.0.1:8000";
constexpr int64_t kMaxMegabytes = 1 << 20;
constexpr int64_t kMaxSequences = 4096;
constexpr int64_t kMaxFailovers = 1000;
constexpr int64_t kMaxProcesses = 256;
// Beside the grace in which its replies end.
constexpr absl::Duration kEndPatience = absl::Seconds(10);

absl::Duration DurationOf(const std::string& text) {
  absl::Duration duration;
  return absl::ParseDuration(text, &duration) ? duration : absl::ZeroDuration();  // checked before
}

struct ProcessFlags {
  ProcessSettings settings;
  std::string drain_grace = "30s", log_format = "text";

  ProcessSettings ToSettings(const CLI::App& app) const {
    ProcessSettings made = settings;
    made.role = app.get_name();
    made.drain_grace = DurationOf(drain_grace);
    made.json_log = log_format == "json";
    return made;
  }
};

void AddProcessFlags(CLI::App& app, ProcessFlags& flags, const std::string& listen,
                     bool speaks_http = false) {
  flags.settings.listen = listen;
  flags.settings.admin_listen = kAnyPort;
  app.add_option("--listen", flags.settings.listen,
                 absl::StrCat("Where it answers; port 0: any that is free (", listen, ")"))
      ->type_name("HOST:PORT")
      ->group(kProcess);
  app.add_option("--admin-listen", flags.settings.admin_listen,
                 "Where /metrics, /healthz, /readyz and /version are (127.0.0.1, any port)")
      ->type_name("HOST:PORT")
      ->group(kProcess);
  app.add_option("--token-file", flags.settings.credentials.token_file,
                 "The cluster token: every call has to carry it")
      ->type_name("FILE")
      ->group(kProcess);
  app.add_option("--tls-certificate", flags.settings.credentials.certificate_file,
                 "TLS: our certificate, PEM")
      ->type_name("FILE")
      ->group(kProcess);
  app.add_option("--tls-key", flags.settings.credentials.key_file, "TLS: of that certificate, PEM")
      ->type_name("FILE")
      ->group(kProcess);
  app.add_option("--tls-ca", flags.settings.credentials.ca_file,
                 "TLS: who vouches for callers and for those we call, PEM")
      ->type_name("FILE")
      ->group(kProcess);
  if (!speaks_http) {
    app.add_flag("--reflection", flags.settings.reflection, "Tell callers which services there are")
        ->group(kProcess);
  }
  app.add_option("--trace", flags.settings.trace,
                 "Where its time goes, request by request: Chrome's trace-event JSON, for "
                 "ui.perfetto.dev")
      ->type_name("FILE")
      ->group(kProcess);
  app.add_option("--log-format", flags.log_format,
                 "Lines of standard error: text, or JSON objects (text)")
      ->check(OneOf({"text", "json"}))
      ->type_name("HOW")
      ->group(kProcess);
  app.add_option("--drain-grace", flags.drain_grace,
                 "How long running replies may take to end when it stops (30s)")
      ->check(Duration())
      ->type_name("TIME")
      ->group(kProcess);
}

struct WorkerFlags {
  ModelFlags model;
  WorkerSettings settings;
  std::string routers, roles;
  int64_t sequences = 4, media_mb = 512, rows_cache_mb = 256;

  absl::StatusOr<WorkerSettings> ToSettings(std::vector<Role> played) const {
    WorkerSettings made = settings;
    ASSIGN_OR_RETURN(made.model, model.ToOptions());
    made.model.sequences = sequences;
    made.media_bytes = media_mb << 20;
    made.rows_cache_bytes = rows_cache_mb << 20;
    made.routers = absl::StrSplit(routers, ',', absl::SkipEmpty());
    made.roles = std::move(played);
    return made;
  }
};

void AddModelName(CLI::App& app, std::string& name) {
  app.add_option("--model-name", name, "What clients call the model (its folder's name)")
      ->type_name("NAME");
}

// `alone`: it joins routers that others can see, too.
void AddWorkerFlags(CLI::App& app, WorkerFlags& flags, bool alone, bool has_engine,
                    bool has_vision) {
  AddModelFlags(app, flags.model);
  if (alone) {
    AddModelName(app, flags.settings.model_name);
    app.add_option("--router", flags.routers, "Routers to join: HOST:PORT,HOST:PORT")
        ->type_name("LIST")
        ->group(kWorker);
    app.add_option("--advertise", flags.settings.advertise,
                   "Where others reach it (where it listens)")
        ->type_name("HOST:PORT")
        ->group(kWorker);
    app.add_option("--id", flags.settings.id, "Its name in the fleet (derived from its address)")
        ->type_name("NAME")
        ->group(kWorker);
  }
  if (has_engine) {
    app.add_option("--sequences", flags.sequences,
                   "Without --pages: whole contexts that the cache holds (4)")
        ->check(Whole(1, kMaxSequences))
        ->type_name("N")
        ->group(kWorker);
  }
  if (has_vision) {
    app.add_option("--media-mb", flags.media_mb, "Most MiB of media that are held (512)")
        ->check(Whole(1, kMaxMegabytes))
        ->type_name("N")
        ->group(kWorker);
    app.add_option("--rows-cache-mb", flags.rows_cache_mb,
                   "Most MiB of rows that are kept for another time (256)")
        ->check(Whole(1, kMaxMegabytes))
        ->type_name("N")
        ->group(kWorker);
  }
}

struct RouterFlags {
  RouterSettings settings;
  std::string queue_wait = "inf", settle = "10s", stall_after;
  int64_t media_memory_mb = 512, media_disk_mb = 4096;

  RouterSettings ToSettings() const {
    RouterSettings made = settings;
    made.longest_wait = DurationOf(queue_wait);
    made.settle = DurationOf(settle);
    if (!stall_after.empty()) made.stall_after = DurationOf(stall_after);
    made.media_memory_bytes = media_memory_mb << 20;
    made.media_file_bytes = media_disk_mb << 20;
    return made;
  }
};

void AddRouterFlags(CLI::App& app, RouterFlags& flags) {
  AddModelName(app, flags.settings.model_name);
  app.add_option("--queue", flags.settings.queue_limit, "Most requests that wait (256)")
      ->check(Whole(0, kMaxCount))
      ->type_name("N")
      ->group(kRouter);
  app.add_option("--tenant-queue", flags.settings.tenant_limit,
                 "Most requests of one tenant that wait (224)")
      ->check(Whole(0, kMaxCount))
      ->type_name("N")
      ->group(kRouter);
  app.add_option("--tenants", flags.settings.tenants_file,
                 "A YAML file: weights and limits of tenants (all alike, none)")
      ->type_name("FILE")
      ->group(kRouter);
  app.add_option("--queue-wait", flags.queue_wait,
                 "Requests that would wait longer, by the measured rate, are refused (inf)")
      ->check(Duration())
      ->type_name("TIME")
      ->group(kRouter);
  app.add_option("--settle", flags.settle,
                 "How long requests wait for a worker while none plays a role (10s)")
      ->check(Duration())
      ->type_name("TIME")
      ->group(kRouter);
  app.add_option("--stall-after", flags.stall_after,
                 "A worker without progress for so long counts as lost (4 predicted steps and 5s)")
      ->check(Duration())
      ->type_name("TIME")
      ->group(kRouter);
  app.add_option("--failovers", flags.settings.failovers,
                 "Most times that one reply changes workers (16)")
      ->check(Whole(0, kMaxFailovers))
      ->type_name("N")
      ->group(kRouter);
  app.add_option("--media-memory-mb", flags.media_memory_mb,
                 "Most MiB of clients' media in memory (512)")
      ->check(Whole(1, kMaxMegabytes))
      ->type_name("N")
      ->group(kRouter);
  app.add_option("--media-disk-mb", flags.media_disk_mb,
                 "Most MiB of clients' media in files beyond that (4096)")
      ->check(Whole(0, kMaxMegabytes))
      ->type_name("N")
      ->group(kRouter);
  app.add_option("--media-folder", flags.settings.media_folder, "Where those files are (/tmp)")
      ->type_name("DIR")
      ->group(kRouter);
}

struct GatewayFlags {
  GatewaySettings settings;
  std::string routers, remote_hosts;
  int64_t body_mb = 64, disk_mb = 4096;
  std::string file_life = "1h", remote_timeout = "20s";

  GatewaySettings ToSettings() const {
    GatewaySettings made = settings;
    made.routers = absl::StrSplit(routers, ',', absl::SkipEmpty());
    made.remote_hosts = absl::StrSplit(remote_hosts, ',', absl::SkipEmpty());
    made.body_bytes = body_mb << 20;
    made.disk_bytes = disk_mb << 20;
    made.file_life = DurationOf(file_life);
    made.fetch_patience = DurationOf(remote_timeout);
    return made;
  }
};

void AddGatewayFlags(CLI::App& app, GatewayFlags& flags) {
  app.add_option("--api-keys-file", flags.settings.api_keys_file,
                 "Who may ask, a line each: TENANT KEY (whoever can connect)")
      ->type_name("FILE")
      ->group(kGateway);
  app.add_option("--max-body-mb", flags.body_mb, "Most MiB of one HTTP request (64)")
      ->check(Whole(1, kMaxMegabytes))
      ->type_name("N")
      ->group(kGateway);
  app.add_option("--max-requests", flags.settings.requests,
                 "Most HTTP requests that are answered at once (1024)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group(kGateway);
  app.add_option(
         "--http-disk-mb", flags.disk_mb,
         "Most MiB of large HTTP requests and of uploaded files on the disk (4096); 0: none "
         "are there")
      ->check(Whole(0, kMaxMegabytes))
      ->type_name("N")
      ->group(kGateway);
  app.add_option("--http-folder", flags.settings.disk_folder, "Where those are (/tmp)")
      ->type_name("DIR")
      ->group(kGateway);
  app.add_option(
         "--allow-remote-media", flags.remote_hosts,
         "Hosts that pictures are fetched from (none): NAME, *.NAME or NAME:PORT; who is in "
         "a private network is named with a port, or by its address")
      ->type_name("LIST")
      ->group(kGateway);
  app.add_option("--remote-media-timeout", flags.remote_timeout,
                 "How long it may take to fetch a picture (20s)")
      ->check(Duration())
      ->type_name("TIME")
      ->group(kGateway);
  app.add_option("--file-life", flags.file_life,
                 "How long uploaded files are kept after their last use (1h)")
      ->check(Duration())
      ->type_name("TIME")
      ->group(kGateway);
}

absl::Status CheckHttpFlag(const GatewayFlags& flags) {
  if (!flags.settings.listen.empty() || flags.settings.api_keys_file.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("--api-keys-file: has no meaning without --http");
}

// Beside something that listens for other things.
void AddHttpFlag(CLI::App& app, GatewayFlags& flags) {
  app.add_option("--http", flags.settings.listen,
                 "Where OpenAI's HTTP is answered (nowhere); port 0: any that is free")
      ->type_name("HOST:PORT")
      ->group(kGateway);
  AddGatewayFlags(app, flags);
}

absl::StatusOr<std::vector<Role>> RolesFrom(const std::string& text) {
  std::vector<Role> roles;
  for (const absl::string_view name : absl::StrSplit(text, ',')) {
    const Role role = RoleFrom(name);
    if (role == common::v1::ROLE_UNSPECIFIED) {
      return absl::InvalidArgumentError(
          absl::StrCat("--roles: ", Quoted(name), " is none of vision, prefill, decode"));
    }
    for (const Role other : roles) {
      if (other == role) {
        return absl::InvalidArgumentError(absl::StrCat("--roles: ", Quoted(name), " comes twice"));
      }
    }
    roles.push_back(role);
  }
  return roles;
}

struct ServiceFlags {
  ProcessFlags process;
  WorkerFlags worker;
  RouterFlags router;
  GatewayFlags gateway;
};

Subcommand AddRole(CLI::App& root, const std::string& name, const std::string& words, Role role) {
  const auto flags = std::make_shared<ServiceFlags>();
  CLI::App* const app = root.add_subcommand(name, words);
  app->footer(absl::StrCat("Examples:\n  minicpmv ", name, " --router=127.0.0.1:50070\n  minicpmv ",
                           name, " --router=127.0.0.1:50070 --log-format=json --trace=", name,
                           ".json"));
  AddProcessFlags(*app, flags->process, kAnyPort);
  AddWorkerFlags(*app, flags->worker, /*alone=*/true, role != ROLE_VISION, role == ROLE_VISION);
  return {app, [app, flags, role]() -> absl::StatusOr<Command> {
            ASSIGN_OR_RETURN(WorkerSettings worker, flags->worker.ToSettings({role}));
            return Command(ServeWorkerOptions{flags->process.ToSettings(*app), std::move(worker)});
          }};
}

// Of what was said to the cluster: what a role understands, and is not the cluster's own matter.
std::vector<std::string> HandedOn(const CLI::App& cluster, const CLI::App& role) {
  std::vector<std::string> handed_on;
  for (const CLI::Option* const option : cluster.get_options()) {
    const std::string flag = option->get_name();
    if (option->count() == 0 || role.get_option_no_throw(flag) == nullptr) continue;
    if (flag == "--listen" || flag == "--threads" || flag == "--config" || flag == "--trace")
      continue;
    if (flag == "--admin-listen" && role.get_name() != "router") continue;
    if (option->get_items_expected_max() == 0) {
      handed_on.push_back(flag);
    } else {
      for (const std::string& value : option->results()) {
        handed_on.push_back(absl::StrCat(flag, "=", value));
      }
    }
  }
  return handed_on;
}

}  // namespace

Subcommand AddVision(CLI::App& root) {
  return AddRole(root, "vision", "A worker that turns media into embedding rows", ROLE_VISION);
}

Subcommand AddPrefill(CLI::App& root) {
  return AddRole(root, "prefill", "A worker that turns prompts into KV pages", ROLE_PREFILL);
}

Subcommand AddDecode(CLI::App& root) {
  return AddRole(root, "decode", "A worker that turns KV pages into tokens", ROLE_DECODE);
}

Subcommand AddWorker(CLI::App& root) {
  const auto flags = std::make_shared<ServiceFlags>();
  CLI::App* const app = root.add_subcommand("worker", "A worker with several roles");
  app->footer("Examples:\n  minicpmv worker --roles=prefill,decode --router=127.0.0.1:50070");
  AddProcessFlags(*app, flags->process, kAnyPort);
  AddWorkerFlags(*app, flags->worker, /*alone=*/true, /*has_engine=*/true, /*has_vision=*/true);
  app->add_option("--roles", flags->worker.roles, "Of vision, prefill, decode")
      ->required()
      ->type_name("LIST")
      ->group(kWorker);
  return {app, [app, flags]() -> absl::StatusOr<Command> {
            ASSIGN_OR_RETURN(std::vector<Role> roles, RolesFrom(flags->worker.roles));
            ASSIGN_OR_RETURN(WorkerSettings worker, flags->worker.ToSettings(std::move(roles)));
            return Command(ServeWorkerOptions{flags->process.ToSettings(*app), std::move(worker)});
          }};
}

Subcommand AddRouter(CLI::App& root) {
  const auto flags = std::make_shared<ServiceFlags>();
  CLI::App* const app =
      root.add_subcommand("router", "Takes conversations, and answers through its workers");
  app->footer(
      "Examples:\n"
      "  minicpmv router --listen=127.0.0.1:50070\n"
      "  minicpmv router --listen=0.0.0.0:50070 --token-file=token\n"
      "  minicpmv router --log-format=json --trace=router.json");
  AddProcessFlags(*app, flags->process, kFarPort);
  AddFolder(*app, flags->router.settings.folder);
  AddRouterFlags(*app, flags->router);
  return {app, [app, flags]() -> absl::StatusOr<Command> {
            return Command(
                ServeRouterOptions{flags->process.ToSettings(*app), flags->router.ToSettings()});
          }};
}

Subcommand AddGateway(CLI::App& root) {
  const auto flags = std::make_shared<ServiceFlags>();
  CLI::App* const app = root.add_subcommand("gateway", "OpenAI's HTTP in front of routers");
  app->footer(
      "Examples:\n"
      "  minicpmv gateway --router=127.0.0.1:50070 --listen=127.0.0.1:8000\n"
      "  minicpmv gateway --router=10.0.0.1:50070,10.0.0.2:50070 --listen=0.0.0.0:8000 "
      "--api-keys-file=keys");
  AddProcessFlags(*app, flags->process, kHttpPort, /*speaks_http=*/true);
  app->add_option("--router", flags->gateway.routers, "Routers that answer: HOST:PORT,HOST:PORT")
      ->required()
      ->type_name("LIST")
      ->group(kGateway);
  AddGatewayFlags(*app, flags->gateway);
  return {app, [app, flags]() -> absl::StatusOr<Command> {
            ServeGatewayOptions options = {flags->process.ToSettings(*app),
                                           flags->gateway.ToSettings()};
            options.gateway.listen = options.process.listen;
            return Command(std::move(options));
          }};
}

Subcommand AddServe(CLI::App& root) {
  const auto flags = std::make_shared<ServiceFlags>();
  CLI::App* const app =
      root.add_subcommand("serve", "A router and a worker with all roles in one process");
  app->footer(
      "Examples:\n"
      "  minicpmv serve --listen=127.0.0.1:50070 --http=127.0.0.1:8000\n"
      "  minicpmv serve --log-format=json --trace=serve.json");
  AddProcessFlags(*app, flags->process, kFarPort);
  AddWorkerFlags(*app, flags->worker, /*alone=*/false, /*has_engine=*/true, /*has_vision=*/true);
  AddRouterFlags(*app, flags->router);
  AddHttpFlag(*app, flags->gateway);
  return {app, [app, flags]() -> absl::StatusOr<Command> {
            ASSIGN_OR_RETURN(WorkerSettings worker,
                             flags->worker.ToSettings({std::begin(kRoles), std::end(kRoles)}));
            RETURN_IF_ERROR(CheckHttpFlag(flags->gateway));
            RouterSettings router = flags->router.ToSettings();
            worker.model_name = router.model_name;
            router.folder = worker.model.folder;
            return Command(ServeAllOptions{flags->process.ToSettings(*app), std::move(router),
                                           std::move(worker), flags->gateway.ToSettings()});
          }};
}

Subcommand AddCluster(CLI::App& root) {
  struct Counts {
    int vision = 1, prefill = 1, decode = 1;
  };
  const auto flags = std::make_shared<ServiceFlags>();
  const auto counts = std::make_shared<Counts>();
  CLI::App* const app =
      root.add_subcommand("cluster", "A router and workers, each a process of this machine");
  app->footer(
      "It starts again what dies, and stops all on Ctrl-C or SIGTERM. Flags of the engine, the\n"
      "workers and the router are handed on to them.\n"
      "Examples:\n"
      "  minicpmv cluster\n"
      "  minicpmv cluster --vision=2 --prefill=1 --decode=2 --threads=8 --listen=127.0.0.1:50070\n"
      "  minicpmv cluster --trace=t.json      # t.router.json, t.vision-0.json, ...\n"
      "  tools/merge_traces.py t.*.json > all.json");
  const auto add_count = [&](const std::string& role, int& count) {
    app->add_option(absl::StrCat("--", role), count,
                    absl::StrCat("Workers with the role ", role, " (1)"))
        ->check(Whole(1, kMaxProcesses))
        ->type_name("N");
  };
  add_count("vision", counts->vision);
  add_count("prefill", counts->prefill);
  add_count("decode", counts->decode);
  AddProcessFlags(*app, flags->process, kFarPort);
  AddWorkerFlags(*app, flags->worker, /*alone=*/false, /*has_engine=*/true, /*has_vision=*/true);
  app->get_option("--threads")->description("Threads that compute, of all workers (all cores)");
  AddRouterFlags(*app, flags->router);
  AddHttpFlag(*app, flags->gateway);
  return {app, [&root, app, flags, counts]() -> absl::StatusOr<Command> {
            ASSIGN_OR_RETURN(WorkerSettings worker, flags->worker.ToSettings({ROLE_DECODE}));
            RETURN_IF_ERROR(CheckHttpFlag(flags->gateway));
            ClusterOptions options;
            options.settings = {flags->process.ToSettings(*app), flags->router.ToSettings(),
                                std::move(worker), flags->gateway.ToSettings()};
            options.vision = counts->vision;
            options.prefill = counts->prefill;
            options.decode = counts->decode;
            options.listen = flags->process.settings.listen;
            options.trace = flags->process.settings.trace;
            options.json_log = flags->process.log_format == "json";
            options.http = flags->gateway.settings.listen;
            options.threads = flags->worker.model.threads.value_or(0);
            options.patience = DurationOf(flags->process.drain_grace) + kEndPatience;
            for (const char* const role : {"router", "vision", "prefill", "decode", "gateway"}) {
              options.flags[role] = HandedOn(*app, *root.get_subcommand(role));
            }
            return Command(std::move(options));
          }};
}

}  // namespace minicpmv
