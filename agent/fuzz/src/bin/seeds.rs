//! Writes each target's seeds into a folder of its own below the given one.

use std::{env, fs, io, path::PathBuf};

use inferscope_fuzz::fuzz;

fn main() -> io::Result<()> {
    let into = env::args_os().nth(1).map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    for target in fuzz::ALL {
        let folder = into.join(target.name);
        fs::create_dir_all(&folder)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(())
}
