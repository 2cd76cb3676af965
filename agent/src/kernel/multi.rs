//! User probes in bulk: one link for all places of one program in one file (`BPF_TRACE_UPROBE_MULTI`, Linux 6.6).
//!
//! A probe by a perf event is a descriptor and a link for every place, and the kernel takes them off one after another
//! under a lock of the whole host, a tenth of a second each. A link of this kind holds any number of places, takes no such
//! lock, and several can be taken off at once. aya 0.14 cannot load a program for it, so this module relocates the object
//! a second time, against the maps that aya has made, and loads the user programs itself. Owns nothing else: what is
//! probed, and what happens where the kernel refuses, is the prober's.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CString, c_char},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    panic::resume_unwind,
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::{
    Function, Object,
    generated::{
        BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_cmd,
        bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    },
};
use thiserror::Error;

use super::{
    prober::Program,
    sys::{bpf, zeroed},
};

/// Why the programs cannot be loaded for links of this kind. Not the end: the prober has another way.
#[derive(Debug, Error)]
pub(super) enum MultiError {
    /// The object, which aya took, was not understood the second time.
    #[error("the object cannot be relocated: {0}")]
    Object(String),
    /// The kernel said no.
    #[error("the kernel refused {0}")]
    Refused(&'static str, #[source] io::Error),
}

impl MultiError {
    fn object(error: impl std::fmt::Display) -> Self {
        Self::Object(error.to_string())
    }
}

/// The user programs, ready to be loaded.
pub(super) struct Prepared {
    btf: OwnedFd,
    programs: Vec<(Program, Function, CString)>,
}

impl Prepared {
    /// Makes the programs of `object` ready, of which `ebpf` has made the maps. None of them may have been taken out yet.
    pub(super) fn new(object: &[u8], ebpf: &Ebpf) -> Result<Self, MultiError> {
        let mut object = Object::parse(object).map_err(MultiError::object)?;
        let features = aya::features();
        let btf = match features.btf() {
            Some(features) => object.fixup_and_sanitize_btf(features).map_err(MultiError::object)?,
            None => None,
        };
        // The copy loop is a callback, which the verifier knows by its type information.
        let btf = btf.map(|btf| btf.to_bytes()).ok_or_else(|| MultiError::object("no type information"))?;
        let btf = load_btf(&btf).map_err(|error| MultiError::Refused("the type information", error))?;
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let described: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
        let mut maps: Vec<(&str, RawFd, &aya_obj::Map)> = Vec::new();
        for (name, map) in &described {
            let made = ebpf.map(name).and_then(data_of);
            let made = made.ok_or_else(|| MultiError::Object(format!("there is no map {name}")))?;
            maps.push((name, made.fd().as_fd().as_raw_fd(), map));
        }
        object.relocate_maps(maps.into_iter(), &text).map_err(MultiError::object)?;
        object.relocate_calls(&text).map_err(MultiError::object)?;
        object.sanitize_functions(features);
        let mut programs = Vec::new();
        for program in Program::ALL {
            let name = program.name();
            let described =
                object.programs.get(name).ok_or_else(|| MultiError::Object(format!("no program {name}")))?;
            let function = object.functions.get(&described.function_key());
            let function = function.ok_or_else(|| MultiError::Object(format!("no code of {name}")))?;
            programs.push((program, function.clone(), described.license.clone()));
        }
        Ok(Self { btf, programs })
    }

    /// Loads them. The kernel looks at each for up to a sixth of a second, at several at once where there are processors.
    pub(super) fn load(self) -> Result<Multi, MultiError> {
        let Self { btf, programs } = &self;
        let load = |(program, function, license): &(Program, Function, CString)| {
            let loaded = load_program(program.name(), function, license, btf);
            Ok((*program, loaded.map_err(|error| MultiError::Refused(program.name(), error))?))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = programs.iter().map(|one| scope.spawn(|| load(one))).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|why| resume_unwind(why)));
            ended.collect::<Result<_, _>>().map(Multi)
        })
    }
}

/// The user programs, loaded for links of this kind.
pub(super) struct Multi(HashMap<Program, OwnedFd>);

impl Multi {
    /// Attaches a program at places of the file at `path`, each a file offset and its cookie, for every process. Before
    /// 6.6 the kernel answers `EINVAL`.
    pub(super) fn attach(&self, program: Program, path: &Path, places: &[(u64, u64)]) -> io::Result<OwnedFd> {
        let loaded = self.0.get(&program).ok_or(io::ErrorKind::NotFound)?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (offsets, cookies): (Vec<u64>, Vec<u64>) = places.iter().copied().unzip();
        let mut attr = zeroed();
        attr.link_create.__bindgen_anon_1.prog_fd = loaded.as_raw_fd() as u32;
        attr.link_create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
        attr.link_create.__bindgen_anon_3.uprobe_multi.path = path.as_ptr() as u64;
        attr.link_create.__bindgen_anon_3.uprobe_multi.offsets = offsets.as_ptr() as u64;
        attr.link_create.__bindgen_anon_3.uprobe_multi.cookies = cookies.as_ptr() as u64;
        attr.link_create.__bindgen_anon_3.uprobe_multi.cnt = places.len() as u32;
        let flags = if program.is_return() { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
        attr.link_create.__bindgen_anon_3.uprobe_multi.flags = flags;
        bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
    }
}

/// The map behind aya's type for its kind.
fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerfEventArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attr.__bindgen_anon_7.btf_size = btf.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

fn load_program(name: &str, function: &Function, license: &CString, btf: &OwnedFd) -> io::Result<OwnedFd> {
    let (types, lines) = (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
    let mut attr = zeroed();
    let mut prog_name = [0; 16];
    for (slot, byte) in prog_name.iter_mut().zip(name.bytes().take(15)) {
        *slot = byte as c_char;
    }
    attr.__bindgen_anon_3.prog_name = prog_name;
    attr.__bindgen_anon_3.prog_type = BPF_PROG_TYPE_KPROBE as u32;
    attr.__bindgen_anon_3.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    attr.__bindgen_anon_3.insns = function.instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = function.instructions.len() as u32;
    attr.__bindgen_anon_3.license = license.as_ptr() as u64;
    attr.__bindgen_anon_3.prog_btf_fd = btf.as_raw_fd() as u32;
    attr.__bindgen_anon_3.func_info = types.as_ptr() as u64;
    attr.__bindgen_anon_3.func_info_cnt = function.func_info.len() as u32;
    attr.__bindgen_anon_3.func_info_rec_size = function.func_info_rec_size as u32;
    attr.__bindgen_anon_3.line_info = lines.as_ptr() as u64;
    attr.__bindgen_anon_3.line_info_cnt = function.line_info.len() as u32;
    attr.__bindgen_anon_3.line_info_rec_size = function.line_info_rec_size as u32;
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}
