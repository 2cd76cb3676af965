//! Where the NVML library is, and its loading.
//!
//! Owns the order of the places (the setting, the environment, the driver's own name for it) and the words for what is
//! missing. The library is loaded when it is first needed: a host without an NVIDIA GPU has none.

use std::{env, path::PathBuf};

use nvml_wrapper::{Nvml, error::NvmlError};
use thiserror::Error;

use super::meter::{Call, Meter};

/// Names a library in place of the driver's, where the settings do not.
pub const LIBRARY_VARIABLE: &str = "INFERSCOPE_NVML_LIBRARY";

/// What the driver calls its library.
const DEFAULT_LIBRARY: &str = "libnvidia-ml.so.1";

/// How GPUs are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The NVML library; without one it is what the environment says, or the driver's.
    pub library: Option<PathBuf>,
    /// How often the cheap counters are read while calls are active, per second.
    pub active_hz: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { library: None, active_hz: 10 }
    }
}

impl Settings {
    /// The library that they mean.
    pub fn library(&self) -> PathBuf {
        let named = || env::var_os(LIBRARY_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        self.library.clone().or_else(named).unwrap_or_else(|| DEFAULT_LIBRARY.into())
    }
}

/// Why GPUs cannot be read.
#[derive(Debug, Error)]
pub enum GpuError {
    /// There is no library.
    #[error(
        "{}: the NVML library cannot be loaded; on a host with an NVIDIA GPU install its driver, in a container let the \
         NVIDIA runtime bring it in (NVIDIA_DRIVER_CAPABILITIES=utility), or name it in gpu.nvml_library",
        .library.display()
    )]
    Library {
        /// Which one.
        library: PathBuf,
        /// Why.
        source: NvmlError,
    },
    /// The library is there and does not work.
    #[error("{}: NVML does not start: {}", .library.display(), remedy(.source))]
    Init {
        /// Which one.
        library: PathBuf,
        /// Why.
        source: NvmlError,
    },
    /// NVML works, and does not say which devices there are.
    #[error("NVML does not list its devices; see what nvidia-smi says")]
    List(#[source] NvmlError),
    /// No thread.
    #[error("a thread for the GPUs cannot be started")]
    Thread(#[source] std::io::Error),
}

/// What to do about an NVML that does not start.
fn remedy(error: &NvmlError) -> &'static str {
    match error {
        NvmlError::DriverNotLoaded => "the driver's kernel module is not loaded (modprobe nvidia)",
        NvmlError::LibRmVersionMismatch => {
            "the library and the kernel module are of different versions: the driver was updated, reboot or reload it"
        }
        NvmlError::NoPermission => "no access to /dev/nvidiactl: run as root, or let the container have the device",
        NvmlError::FailedToLoadSymbol(_) => "this is no NVML library, or one from before its version 2",
        NvmlError::GpuLost => "a GPU fell off the bus",
        _ => "see what nvidia-smi says",
    }
}

/// Loads and initialises the library. May take seconds where no other program keeps the driver awake.
pub(super) fn load(settings: &Settings, meter: &Meter) -> Result<Nvml, GpuError> {
    let library = settings.library();
    let (result, _) = meter.time(Call::Init, || Nvml::builder().lib_path(library.as_os_str()).init());
    result.map_err(|source| match source {
        NvmlError::LibloadingError(_) => GpuError::Library { library, source },
        _ => GpuError::Init { library, source },
    })
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;

    fn error(library: &Path) -> GpuError {
        let meter = Meter::new(crate::kernel::clock::now, Arc::new(()));
        load(&Settings { library: Some(library.to_owned()), ..Settings::default() }, &meter).unwrap_err()
    }

    #[test]
    fn a_library_that_is_missing_or_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("libnvidia-ml.so.1");
        let text = error(&missing).to_string();
        assert!(text.starts_with(missing.to_str().unwrap()) && text.contains("gpu.nvml_library"), "{text}");
        std::fs::write(&missing, "no ELF file").unwrap();
        assert!(matches!(error(&missing), GpuError::Library { .. }));
    }
}
