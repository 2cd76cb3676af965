//! What the fuzz programs have in common.

pub use inferscope_testing::{alloc::Counting, fuzz};
pub use libfuzzer_sys::fuzz_target;

/// The program of one target.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        #[global_allocator]
        static ALLOCATOR: $crate::Counting = $crate::Counting;

        $crate::fuzz_target!(|input: &[u8]| $crate::fuzz::run($name, input));
    };
}
