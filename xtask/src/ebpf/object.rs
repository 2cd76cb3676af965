//! What every kernel object must have, and where two of them differ.

use anyhow::{Context as _, Result, bail, ensure};
use object::{File, Object as _, ObjectSection as _, SectionKind};

/// What the kernel is told: helpers that are for GPL programs only need it.
const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// Checks that a kernel takes the object with everything that the agent needs, and describes it in a line.
pub fn inspect(bytes: &[u8]) -> Result<String> {
    let file = File::parse(bytes).context("not an object file")?;
    ensure!(file.architecture() == object::Architecture::Bpf, "not for BPF but {:?}", file.architecture());
    let size = |name: &str| {
        let section = file.section_by_name(name).with_context(|| format!("section {name} is missing"))?;
        ensure!(section.size() > 0, "section {name} is empty");
        Ok(section.size())
    };
    // Without BTF no tp_btf program loads. Linkers have stopped to write it before, without a word.
    let (btf, btf_ext) = (size(".BTF")?, size(".BTF.ext")?);
    let license = file.section_by_name("license").context("section license is missing")?.data()?;
    if license != LICENSE {
        bail!("the licence is {:?}", String::from_utf8_lossy(license));
    }
    if file.sections().any(|section| section.name().is_ok_and(|name| name.starts_with(".debug_"))) {
        bail!("it still has debug information");
    }
    let code: u64 = file.sections().filter(|s| s.kind() == SectionKind::Text).map(|section| section.size()).sum();
    Ok(format!("{} bytes: code {code}, .BTF {btf}, .BTF.ext {btf_ext}", bytes.len()))
}

/// The names of the sections that differ between two objects.
pub fn differing_sections(one: &[u8], other: &[u8]) -> Result<Vec<String>> {
    let (one, other) = (File::parse(one)?, File::parse(other)?);
    let data = |file: &File<'_>, name: &str| Some(file.section_by_name(name)?.data().ok()?.to_vec());
    let names = one.sections().chain(other.sections()).filter_map(|section| section.name().ok().map(str::to_owned));
    let mut differing: Vec<_> = names.filter(|name| data(&one, name) != data(&other, name)).collect();
    differing.sort();
    differing.dedup();
    Ok(differing)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use inferscope_tests::place;

    use super::*;
    use crate::digest;

    #[test]
    fn the_committed_object_is_as_it_must_be() {
        let bytes = fs::read(place::workspace().join(digest::OBJECT)).unwrap();
        assert!(inspect(&bytes).unwrap().starts_with(&format!("{} bytes: code ", bytes.len())));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(inspect(b"text").unwrap_err().to_string().starts_with("not an object file"));
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(inspect(&this).unwrap_err().to_string().starts_with("not for BPF"));
    }

    #[test]
    fn a_changed_section_is_named() {
        let bytes = fs::read(place::workspace().join(digest::OBJECT)).unwrap();
        assert_eq!(differing_sections(&bytes, &bytes).unwrap(), Vec::<String>::new());
        let (at, _) = File::parse(&*bytes).unwrap().section_by_name("license").unwrap().file_range().unwrap();
        let mut changed = bytes.clone();
        changed[usize::try_from(at).unwrap()] = b'd';
        assert_eq!(differing_sections(&bytes, &changed).unwrap(), ["license"]);
        assert!(inspect(&changed).unwrap_err().to_string().contains("dual MIT/GPL"));
    }
}
