//! A program that has nothing to do with models: what an agent costs those that it does not look at.

use std::{
    io::{Read as _, Write as _, pipe},
    os::unix::process::parent_id,
    time::Instant,
};

use anyhow::Result;

use super::order::{Habit, Idle, Idled};

/// Carries out an order.
pub fn idle(order: &Idle) -> Result<Idled> {
    let (mut reader, mut writer) = pipe()?;
    let mut byte = [0u8];
    let mut told = Idled::default();
    for _ in 0..order.batches {
        let began = Instant::now();
        match order.habit {
            Habit::Getppid => {
                for _ in 0..order.batch {
                    std::hint::black_box(parent_id());
                }
            }
            Habit::Pipe => {
                for _ in 0..order.batch / 2 {
                    writer.write_all(&byte)?;
                    reader.read_exact(&mut byte)?;
                }
            }
        }
        told.call_ns.push(began.elapsed().as_nanos() as f64 / f64::from(order.batch));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_habits_give_a_figure_a_batch() {
        for habit in [Habit::Getppid, Habit::Pipe] {
            let told = idle(&Idle { habit, batches: 3, batch: 100 }).unwrap();
            assert_eq!(told.call_ns.len(), 3);
            assert!(told.call_ns.iter().all(|ns| *ns > 0.0));
        }
    }
}
