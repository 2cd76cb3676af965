//! Layouts of engines on a host, and what must hold of groups in any layout.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::host::Role;

/// A process that started at its pid's second.
fn process(pid: u32, parent: u32, cmdline: &str) -> ProcessInfo {
    let cmdline: Vec<String> = cmdline.split(' ').map(str::to_owned).collect();
    ProcessInfo {
        pid,
        parent,
        start_boottime_ns: u64::from(pid) * 1_000_000_000 + 1,
        comm: cmdline.first().map(|first| first.rsplit('/').next().unwrap().chars().take(15).collect()),
        cmdline,
        cgroup: Some("/user.slice/user-0.slice/session-1.scope".to_owned()),
        ..ProcessInfo::default()
    }
}

fn listening(process: ProcessInfo, port: u16) -> ProcessInfo {
    ProcessInfo { listens: vec![port], ..process }
}

fn inside(process: ProcessInfo, cgroup: &str) -> ProcessInfo {
    ProcessInfo { cgroup: Some(cgroup.to_owned()), ..process }
}

fn link(a: u32, b: u32) -> LocalLink {
    LocalLink { one: a.min(b), other: a.max(b) }
}

/// Each group as `kind: pid role, pid role`, and what it is made of.
fn show(groups: &Groups) -> Vec<String> {
    let show = |group: &Group| {
        let role = |member: &Member| member.role.map_or("-", Role::as_str);
        let members: Vec<String> =
            group.members.iter().map(|member| format!("{} {}", member.pid, role(member))).collect();
        let evidence: Vec<&str> = group.evidence.iter().map(|kind| kind.as_str()).collect();
        format!("{}: {} [{}]", group.kind.as_str(), members.join(", "), evidence.join(" "))
    };
    groups.all().iter().map(show).collect()
}

#[test]
fn vllm_with_two_workers_in_a_container() {
    let pod = "/kubepods.slice/kubepods-pod471203d1_984f_477e_9c35_db96487ffe5e.slice/crio-x.scope";
    let at = |process| inside(process, pod);
    let processes = [
        process(2, 1, "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io"),
        at(process(10, 2, "/pause")),
        at(listening(process(20, 2, "python3 /usr/bin/vllm serve Qwen/Qwen3-8B --served-model-name q"), 8000)),
        at(process(21, 20, "python3 -c from multiprocessing.resource_tracker import main;main(4)")),
        at(process(22, 20, "python3 -c from multiprocessing.forkserver import main")),
        at(listening(process(30, 22, "VLLM::EngineCore"), 41001)),
        at(process(31, 30, "VLLM::Worker_TP0")),
        at(process(32, 30, "VLLM::Worker_TP1")),
    ];
    let groups = Groups::build(&processes, &[link(20, 30)], &[(31, 0), (32, 1)]);
    assert_eq!(
        show(&groups),
        ["vllm: 20 api_server, 21 -, 22 -, 30 engine_core, 31 worker, 32 worker \
         [command_line process_tree control_group local_socket gpu]"]
    );
    let group = groups.serving(20).unwrap();
    assert_eq!((group.devices.as_slice(), group.model.as_deref()), ([0, 1].as_slice(), Some("Qwen/Qwen3-8B")));
    assert_eq!((group.served_name.as_deref(), group.confidence > 0.95), (Some("q"), true));
    assert_eq!(group.id.to_string(), "20-2000");
    assert_eq!(groups.serving(10), None, "the pause container");
    // Of the kernel, to the nanosecond; and another process under the pid.
    assert_eq!(groups.serving_process(31, 31_000_000_999), Some(group));
    assert_eq!(groups.serving_process(31, 31_020_000_000), None);
}

#[test]
fn several_api_servers_and_a_rust_front_have_a_launcher() {
    let processes = [
        listening(process(20, 1, "vllm serve M --api-server-count 2"), 8000),
        listening(process(21, 20, "VLLM::APIServer_0"), 8000),
        listening(process(22, 20, "VLLM::APIServer_1"), 8000),
        process(23, 20, "VLLM::DPCoordinator"),
        process(24, 20, "VLLM::EngineCore_DP0"),
    ];
    assert_eq!(
        show(&Groups::build(&processes, &[], &[(24, 0)])),
        [
            "vllm: 20 launcher, 21 api_server, 22 api_server, 23 coordinator, 24 engine_core [command_line process_tree gpu]"
        ]
    );
}

#[test]
fn engines_of_one_shell_or_one_script_are_two() {
    let shell = process(5, 4, "-bash");
    let script = process(6, 5, "python3 start_both.py");
    for (parent, above) in [(5, vec![shell.clone()]), (6, vec![shell, script])] {
        let mut processes = above;
        for at in [100, 200] {
            processes.push(listening(process(at, parent, "python3 -m sglang.launch_server --model-path M"), at as u16));
            processes.push(process(at + 1, at, "sglang::scheduler_TP0"));
            processes.push(process(at + 2, at, "sglang::detokenizer"));
        }
        let groups = Groups::build(&processes, &[], &[(101, 0), (201, 1)]);
        assert_eq!(
            show(&groups),
            [
                "sglang: 100 api_server, 101 scheduler, 102 detokenizer [command_line process_tree gpu]",
                "sglang: 200 api_server, 201 scheduler, 202 detokenizer [command_line process_tree gpu]"
            ]
        );
    }
}

#[test]
fn a_program_that_uses_vllm_as_a_library_is_its_server() {
    let processes = [
        process(5, 1, "bash"),
        listening(process(20, 5, "python3 my_server.py"), 9000),
        process(21, 20, "VLLM::EngineCore"),
        // One that serves nobody.
        process(40, 5, "python3 offline.py"),
        process(41, 40, "VLLM::EngineCore"),
    ];
    assert_eq!(
        show(&Groups::build(&processes, &[], &[(21, 0), (41, 1)])),
        [
            "vllm: 20 api_server, 21 engine_core [command_line process_tree gpu]",
            "vllm: 40 launcher, 41 engine_core [command_line process_tree gpu]"
        ]
    );
}

#[test]
fn tgi_and_ollama_and_lm_studio() {
    let unit = |process, name: &str| inside(process, &format!("/system.slice/{name}.service"));
    let processes = [
        process(10, 2, "text-generation-launcher --model-id M"),
        listening(process(11, 10, "text-generation-router --port 80 --tokenizer-name M"), 80),
        process(12, 10, "python3 /usr/bin/text-generation-server serve M --uds-path /tmp/t"),
        unit(listening(process(30, 1, "/usr/local/bin/ollama serve"), 11434), "ollama"),
        unit(
            listening(process(31, 30, "/usr/local/bin/ollama runner --model /b/sha256-1 --port 40000"), 40000),
            "ollama",
        ),
        unit(listening(process(32, 30, "/usr/local/lib/ollama/llama-server --model /b/sha256-2"), 40001), "ollama"),
        listening(process(50, 1, "llmster"), 1234),
        process(
            51,
            50,
            "/home/u/.lmstudio/.internal/utils/node /home/u/.lmstudio/llmster/0.0.6-1/.bundle/lib/llmworker.js",
        ),
    ];
    let groups = Groups::build(&processes, &[], &[(12, 0), (31, 0), (51, 0)]);
    assert_eq!(
        show(&groups),
        [
            "tgi: 10 launcher, 11 router, 12 worker [command_line process_tree gpu]",
            "ollama: 30 api_server, 31 runner, 32 runner [command_line process_tree control_group gpu]",
            "lmstudio: 50 api_server, 51 worker [command_line process_tree gpu]"
        ]
    );
    // Two runners, two models: none of them is the group's.
    assert_eq!(
        (groups.serving(30).unwrap().model.as_deref(), groups.serving(12).unwrap().model.as_deref()),
        (None, Some("M"))
    );
    assert_eq!(groups.hop(30, 31), Some(Hop::Runner));
}

#[test]
fn a_proxy_in_front_is_linked_and_no_member() {
    let vllm = |cgroup: &str| {
        [
            inside(listening(process(20, 5, "vllm serve M"), 8000), cgroup),
            inside(process(21, 20, "VLLM::EngineCore"), cgroup),
        ]
    };
    // In a unit of its own, and beside the engine in one container.
    for (own, engines) in [("/system.slice/nginx.service", "/docker/a"), ("/docker/a", "/docker/a")] {
        let [server, core] = vllm(engines);
        let processes = [
            process(5, 1, "/usr/bin/tini -- run"),
            server,
            core,
            inside(listening(process(30, 5, "nginx: worker process"), 80), own),
            inside(listening(process(31, 5, "python3 /usr/bin/litellm --port 4000"), 4000), own),
            inside(process(40, 5, "python3 load.py"), own),
        ];
        let links = [link(30, 20), link(31, 20), link(40, 20), link(40, 31)];
        let groups = Groups::build(&processes, &links, &[(21, 0)]);
        assert_eq!(groups.all().len(), 1);
        let group = groups.serving(20).unwrap();
        assert_eq!((group.members.len(), group.fronts.as_slice()), (2, [30, 31].as_slice()));
        assert_eq!((groups.hop(30, 20), groups.hop(31, 20)), (Some(Hop::Proxy), Some(Hop::Proxy)));
        assert_eq!((groups.hop(40, 20), groups.hop(20, 20), groups.hop(20, 77)), (None, None, None));
    }
    // A proxy is not the server of a process on a GPU that listens on a UNIX socket only.
    let processes = [
        inside(listening(process(30, 5, "nginx: worker process"), 80), "/docker/a"),
        inside(process(31, 5, "python3 app.py --uds /run/a"), "/docker/a"),
    ];
    assert_eq!(show(&Groups::build(&processes, &[link(30, 31)], &[(31, 0)])), ["unknown: 31 worker [gpu]"]);
}

#[test]
fn an_engine_without_a_name_is_found_by_its_gpu() {
    let chain = [
        process(5, 4, "cargo test"),
        process(6, 5, "target/debug/e2e"),
        listening(process(20, 6, "engine front"), 8000),
        process(21, 20, "engine core"),
        process(22, 21, "engine worker"),
        process(23, 6, "load"),
    ];
    let groups = Groups::build(&chain, &[link(20, 23)], &[(22, 0)]);
    assert_eq!(show(&groups), ["unknown: 20 api_server, 21 -, 22 worker [process_tree gpu]"]);
    // Beside each other under a launcher of their own.
    let siblings = [
        process(6, 5, "target/debug/e2e"),
        process(19, 6, "engine"),
        listening(process(20, 19, "engine front"), 8000),
        process(21, 19, "engine core"),
        process(22, 19, "engine worker"),
        process(23, 6, "load"),
    ];
    let links = [link(20, 21), link(21, 22), link(20, 23)];
    assert_eq!(
        show(&Groups::build(&siblings, &links, &[(22, 0)])),
        ["unknown: 19 launcher, 20 api_server, 21 engine_core, 22 worker [process_tree local_socket gpu]"]
    );
}

#[test]
fn sockets_tell_two_engines_under_one_parent() {
    let mut processes = vec![process(6, 5, "target/debug/e2e")];
    let mut links = Vec::new();
    for at in [20, 30] {
        processes.push(listening(process(at, 6, "engine front"), at as u16));
        processes.push(process(at + 1, 6, "engine core"));
        processes.push(process(at + 2, 6, "engine worker"));
        links.extend([link(at, at + 1), link(at + 1, at + 2)]);
    }
    let gpus = [(22, 0), (32, 1)];
    // Joined by what they say to each other; the parent of both is neither's.
    let groups = Groups::build(&processes, &links, &gpus);
    assert_eq!(
        show(&groups),
        [
            "unknown: 20 api_server, 21 engine_core, 22 worker [process_tree local_socket gpu]",
            "unknown: 30 api_server, 31 engine_core, 32 worker [process_tree local_socket gpu]"
        ]
    );
    // One alone, beside a client: the parent has started more than an engine.
    let alone = [&processes[..4], &[process(40, 6, "load")]].concat();
    assert_eq!(
        show(&Groups::build(&alone, &[&links[..2], &[link(20, 40)]].concat(), &gpus[..1])),
        ["unknown: 20 api_server, 21 engine_core, 22 worker [process_tree local_socket gpu]"]
    );
    // Without sockets nothing tells which worker is whose, and nothing is said.
    assert_eq!(show(&Groups::build(&processes, &[], &gpus)), ["unknown: 22 worker [gpu]", "unknown: 32 worker [gpu]"]);
}

#[test]
fn split_ones_are_joined_by_a_socket_in_one_control_group() {
    let at = |process, cgroup: &str| inside(process, cgroup);
    let processes = |cgroup: &str| {
        [
            at(listening(process(20, 1, "vllm serve M --data-parallel-size 2"), 8000), "/docker/a"),
            at(process(21, 20, "VLLM::EngineCore_DP0"), "/docker/a"),
            at(process(30, 1, "vllm serve M --headless"), cgroup),
            at(listening(process(31, 30, "VLLM::EngineCore_DP1"), 5000), cgroup),
            at(process(40, 1, "ray::RayWorkerWrapper.execute_method"), cgroup),
        ]
    };
    let links = [link(20, 31), link(40, 21)];
    let gpus = [(21, 0), (31, 1), (40, 2)];
    assert_eq!(
        show(&Groups::build(&processes("/docker/a"), &links, &gpus)),
        [
            "vllm: 20 api_server, 21 engine_core, 30 launcher, 31 engine_core [command_line process_tree control_group local_socket gpu]",
            "vllm: 40 worker [command_line gpu]"
        ]
    );
    let apart = Groups::build(&processes("/docker/b"), &links, &gpus);
    assert_eq!(apart.all().len(), 3, "another container");
    // Unknown ones: front and worker of one unit, started apart by its manager.
    let processes = [
        at(listening(process(20, 1, "front"), 8000), "/system.slice/a.service"),
        at(process(21, 1, "worker"), "/system.slice/a.service"),
        at(listening(process(22, 1, "exporter"), 9090), "/system.slice/a.service"),
    ];
    let of = |links: &[LocalLink]| show(&Groups::build(&processes, links, &[(21, 0)]));
    assert_eq!(of(&[link(20, 21)]), ["unknown: 20 api_server, 21 worker [control_group local_socket gpu]"]);
    assert_eq!(of(&[link(20, 21), link(22, 21)]), ["unknown: 21 worker [gpu]"], "which of two is not told");
}

#[test]
fn servers_that_share_a_port_and_workers_that_listen() {
    let processes = [
        listening(process(20, 5, "gunicorn: master [app]"), 8000),
        listening(process(21, 20, "gunicorn: worker [app]"), 8000),
        listening(process(22, 20, "gunicorn: worker [app]"), 8000),
        // Its port is for the other ranks.
        listening(process(23, 21, "python3 rank.py"), 29500),
        // A server of its own, on a GPU of its own.
        listening(process(40, 5, "python3 other.py"), 9000),
    ];
    assert_eq!(
        show(&Groups::build(&processes, &[], &[(23, 0), (40, 1)])),
        [
            "unknown: 20 api_server, 21 api_server, 22 api_server, 23 api_server [process_tree gpu]",
            "unknown: 40 api_server [gpu]"
        ]
    );
}

#[test]
fn a_control_group_cuts_the_tree() {
    let processes = [
        inside(listening(process(20, 5, "python3 manager.py"), 8000), "/system.slice/manager.service"),
        inside(process(21, 20, "python3 worker.py"), "/docker/a"),
    ];
    assert_eq!(show(&Groups::build(&processes, &[], &[(21, 0)])), ["unknown: 21 worker [gpu]"]);
    // What could not be read does not.
    let mut unread = processes;
    unread[1].cgroup = None;
    assert_eq!(Groups::build(&unread, &[], &[(21, 0)]).serving(20).unwrap().members.len(), 2);
}

#[test]
fn a_pid_that_came_back_is_another_process() {
    let server = listening(process(20, 5, "python3 my_server.py"), 8000);
    let late = ProcessInfo { start_boottime_ns: 90_000_000_000, ..server };
    let processes = [late, process(21, 20, "VLLM::EngineCore")];
    assert_eq!(show(&Groups::build(&processes, &[], &[(21, 0)])), ["vllm: 21 engine_core [command_line gpu]"]);
}

#[test]
fn five_hundred_processes_are_cheap() {
    let mut processes = vec![process(2, 1, "python3 everything.py")];
    let mut links = Vec::new();
    let mut gpus = Vec::new();
    for n in 0..100 {
        let at = 10 + n * 5;
        processes.push(listening(process(at, 2, "front"), at as u16));
        processes.push(process(at + 1, 2, "core"));
        for worker in 2..5 {
            processes.push(process(at + worker, 2, "worker"));
            links.push(link(at + 1, at + worker));
            gpus.push((at + worker, n));
        }
        links.push(link(at, at + 1));
    }
    let begun = Instant::now();
    let groups = Groups::build(&processes, &links, &gpus);
    eprintln!("{} processes in {:?}", processes.len(), begun.elapsed());
    assert_eq!(groups.all().len(), 100);
    assert!(groups.all().iter().all(|group| group.members.len() == 5));
}

/// Processes as no host has them: few pids, so that they meet.
fn processes() -> impl Strategy<Value = Vec<ProcessInfo>> {
    const LINES: [&str; 8] = [
        "vllm serve M",
        "VLLM::EngineCore",
        "ollama serve",
        "python3 app.py",
        "bash",
        "nginx",
        "sglang::scheduler",
        "vllm serve M --headless",
    ];
    let one = (2..12u32, 0..12u32, 0..6u64, 0..LINES.len(), 0..4usize, 0..3u16);
    prop::collection::vec(one, 0..24).prop_map(|all| {
        let of = |(pid, parent, start, line, cgroup, port): (u32, u32, u64, usize, usize, u16)| {
            let cgroup = [None, Some("/"), Some("/docker/a"), Some("/docker/b")][cgroup];
            ProcessInfo {
                start_boottime_ns: start * TICK_NS,
                cgroup: cgroup.map(str::to_owned),
                listens: (port > 0).then_some(port).into_iter().collect(),
                ..process(pid, parent, LINES[line])
            }
        };
        all.into_iter().map(of).collect()
    })
}

proptest! {
    #[test]
    fn in_any_layout(
        processes in processes(),
        links in prop::collection::vec((2..12u32, 2..12u32), 0..12),
        gpus in prop::collection::vec((2..12u32, 0..3u32), 0..6),
        shuffle in any::<u64>(),
    ) {
        let links: Vec<LocalLink> = links.into_iter().map(|(a, b)| link(a, b)).collect();
        let groups = Groups::build(&processes, &links, &gpus);
        // Every process is in one group at most, and is one that there is.
        let mut seen = std::collections::HashSet::new();
        for group in groups.all() {
            prop_assert!(group.confidence > 0.0 && group.confidence < 1.0);
            prop_assert!(group.members.iter().any(|member| member.pid == group.id.pid));
            for member in &group.members {
                prop_assert!(seen.insert((member.pid, member.start_boottime_ns)));
                let is = |process: &ProcessInfo| (process.pid, process.start_boottime_ns) == (member.pid, member.start_boottime_ns);
                prop_assert!(processes.iter().any(is));
            }
        }
        // Who is an engine's or on a GPU is in one.
        for process in &processes {
            if crate::host::Engine::recognise(process).is_some() && groups.known[&process.pid].start_boottime_ns == process.start_boottime_ns
                && processes.iter().filter(|other| other.pid == process.pid && other.start_boottime_ns == process.start_boottime_ns).count() == 1
            {
                prop_assert!(groups.serving(process.pid).is_some());
            }
        }
        // The order of what goes in does not matter.
        let mut mixed = (processes.clone(), links, gpus);
        let mut state = shuffle | 1;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n.max(1)
        };
        (0..mixed.0.len()).for_each(|at| mixed.0.swap(at, next(processes.len())));
        mixed.1.reverse();
        mixed.2.reverse();
        let other = Groups::build(&mixed.0, &mixed.1, &mixed.2);
        prop_assert_eq!(other.all(), groups.all());
    }

    #[test]
    fn a_child_never_joins_who_took_its_parents_pid(processes in processes(), gpus in prop::collection::vec((2..12u32, 0..3u32), 0..6)) {
        // Everybody whose pid is somebody's parent began after that one.
        let late: Vec<ProcessInfo> = processes
            .into_iter()
            .map(|process| ProcessInfo { start_boottime_ns: TICK_NS * u64::from(20 - process.pid), parent: process.parent.min(process.pid - 1), ..process })
            .collect();
        for group in Groups::build(&late, &[], &gpus).all() {
            prop_assert_eq!(group.members.len(), 1, "{:?}", group);
        }
    }
}
