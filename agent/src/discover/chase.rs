//! The function inside: `SSL_read` and `SSL_read_ex` both do nothing but call one internal function with their own
//! arguments. Probing that one instead takes half as many probes, and its entry is cheap where theirs is not.
//!
//! Proved from the code, never assumed from a version: the values in the argument registers are followed from the entry to
//! the first call, and both functions must reach the same target with `(object, buffer, number, .., out)` in place. Pure.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};

use super::site::ARGUMENTS;

/// Bytes of a wrapper that are looked at: the longest that was seen reaches its call after 48.
pub const WRAPPER_BYTES: u64 = 128;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// The function's n-th argument.
    Argument(usize),
    /// The lower half of it, extended.
    HalfArgument(usize),
    /// An address on the stack.
    Stack,
    /// Something else.
    Unknown,
}

/// A function's first call, and what it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstCall {
    /// Virtual address of the function that is called.
    pub target: u64,
    passed: [Value; 6],
}

/// The internal function of a pair of wrappers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Virtual address.
    pub target: u64,
    /// Which argument points to the count, counted from 1: the fourth, or the fifth from OpenSSL 3.3 on, whose write
    /// function takes flags before it.
    pub count_argument: usize,
}

/// Follows a function from its entry at `address` to its first direct call. Conditional branches are taken not to be
/// taken: they lead to errors. `None` if anything else comes first.
pub fn first_call(code: &[u8], address: u64) -> Option<FirstCall> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut passed = [0, 1, 2, 3, 4, 5].map(Value::Argument);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        match instruction.flow_control() {
            FlowControl::Next => step(&instruction, &mut passed, &mut info),
            FlowControl::ConditionalBranch => {}
            FlowControl::Call if instruction.code() == Code::Call_rel32_64 => {
                return Some(FirstCall { target: instruction.near_branch_target(), passed });
            }
            _ => return None,
        }
    }
    None
}

/// The function that both wrappers call: `plain(object, buffer, int number)`, which returns the count, and
/// `extended(object, buffer, size_t number, size_t *count)`.
pub fn inner(plain: &FirstCall, extended: &FirstCall) -> Option<Inner> {
    use Value::{Argument, HalfArgument, Stack};
    let passes_first_two = |call: &FirstCall| call.passed[..2] == [Argument(0), Argument(1)];
    let same = plain.target == extended.target && passes_first_two(plain) && passes_first_two(extended);
    let number = matches!(plain.passed[2], Argument(2) | HalfArgument(2)) && extended.passed[2] == Argument(2);
    // Where the one passes its caller's pointer, the other passes one of its own.
    let place = (3..5).find(|&place| extended.passed[place] == Argument(3))?;
    (same && number && plain.passed[place] == Stack)
        .then_some(Inner { target: plain.target, count_argument: place + 1 })
}

/// The function that a plain wrapper calls, where it is known to be the internal one: what is left to tell is where it wants
/// the count.
pub fn inner_of_plain(plain: &FirstCall) -> Option<Inner> {
    use Value::{Argument, HalfArgument, Stack};
    let [Argument(0), Argument(1), Argument(2) | HalfArgument(2), fourth, fifth, _] = plain.passed else { return None };
    let count_argument = match (fourth, fifth) {
        (Stack, Stack) => return None,
        (Stack, _) => 4,
        (_, Stack) => 5,
        _ => return None,
    };
    Some(Inner { target: plain.target, count_argument })
}

/// What an instruction does to the values.
fn step(instruction: &Instruction, passed: &mut [Value; 6], info: &mut InstructionInfoFactory) {
    let value = moved(instruction, passed);
    for used in info.info(instruction).used_registers() {
        let writes =
            !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None);
        if writes && let Some(place) = place_of(used.register()) {
            passed[place] = value.unwrap_or(Value::Unknown);
        }
    }
}

/// What a move puts into its first operand; `None` for what is no move that is followed.
fn moved(instruction: &Instruction, passed: &[Value; 6]) -> Option<Value> {
    let source = || place_of(instruction.op1_register()).and_then(|place| passed.get(place).copied());
    match instruction.code() {
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
            if instruction.op1_register() == Register::RSP { Some(Value::Stack) } else { source() }
        }
        Code::Movsxd_r64_rm32 | Code::Mov_r32_rm32 | Code::Mov_rm32_r32
            if instruction.op1_kind() == OpKind::Register =>
        {
            match source()? {
                Value::Argument(n) | Value::HalfArgument(n) => Some(Value::HalfArgument(n)),
                Value::Stack | Value::Unknown => None,
            }
        }
        Code::Lea_r64_m
            if instruction.memory_base() == Register::RSP && instruction.memory_index() == Register::None =>
        {
            Some(Value::Stack)
        }
        _ => None,
    }
}

fn place_of(register: Register) -> Option<usize> {
    let full = register.full_register();
    ARGUMENTS.iter().position(|&argument| argument == full)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SSL_read` of OpenSSL 3.0 as compiled by GCC 12: sub, stack protector, test, js, mov %rsp,%rcx, movslq, call.
    const PLAIN: [u8; 36] = [
        0x48, 0x83, 0xec, 0x18, 0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, 0x48, 0x89, 0x44, 0x24, 0x08, 0x31, 0xc0,
        0x85, 0xd2, 0x78, 0x2f, 0x48, 0x89, 0xe1, 0x48, 0x63, 0xd2, 0xe8, 0x3d, 0xfe, 0xff, 0xff, 0x90,
    ];
    const PLAIN_AT: u64 = 0x35430;
    /// `SSL_read_ex`: sub, call.
    const EXTENDED: [u8; 9] = [0x48, 0x83, 0xec, 0x08, 0xe8, 0xc7, 0xfd, 0xff, 0xff];
    const EXTENDED_AT: u64 = 0x354c0;

    #[test]
    fn both_wrappers_lead_to_one_function() {
        let plain = first_call(&PLAIN, PLAIN_AT).unwrap();
        let extended = first_call(&EXTENDED, EXTENDED_AT).unwrap();
        assert_eq!(plain.target, PLAIN_AT + 35 - 0x1c3);
        assert_eq!(extended.target, EXTENDED_AT + 9 - 0x239);
        let extended = FirstCall { target: plain.target, ..extended };
        assert_eq!(inner(&plain, &extended), Some(Inner { target: plain.target, count_argument: 4 }));
    }

    #[test]
    fn flags_before_the_count_move_it_to_the_fifth_place() {
        // lea 8(%rsp),%r8; xor %ecx,%ecx; call
        let plain = first_call(&[0x4c, 0x8d, 0x44, 0x24, 0x08, 0x31, 0xc9, 0xe8, 1, 0, 0, 0], 0).unwrap();
        // mov %rcx,%r8; xor %ecx,%ecx; call
        let extended = first_call(&[0x49, 0x89, 0xc8, 0x31, 0xc9, 0xe8, 3, 0, 0, 0], 0).unwrap();
        assert_eq!(inner(&plain, &extended), Some(Inner { target: 13, count_argument: 5 }));
    }

    #[test]
    fn other_targets_and_other_arguments_are_refused() {
        let plain = first_call(&PLAIN, PLAIN_AT).unwrap();
        let extended = first_call(&EXTENDED, EXTENDED_AT).unwrap();
        assert_eq!(inner(&plain, &FirstCall { target: extended.target + 1, ..extended }), None, "another function");
        // mov %rdi,%rsi; call: the buffer is not passed on.
        let swapped = first_call(&[0x48, 0x89, 0xfe, 0xe8, 0, 0, 0, 0], 0).unwrap();
        assert_eq!(inner(&FirstCall { target: swapped.target, ..plain }, &swapped), None);
    }

    #[test]
    fn code_that_goes_elsewhere_first_has_no_first_call() {
        for code in [&[0xc3u8][..], &[0xff, 0xd0], &[0xe9, 0, 0, 0, 0], &[0x06], &[]] {
            assert_eq!(first_call(code, 0), None, "{code:x?}");
        }
    }
}
