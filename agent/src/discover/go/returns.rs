//! Where a call of a Go function is over, and what stands where then.
//!
//! A return instruction is the obvious place and the dearest one: the kernel must single-step it. Where the function
//! defers a call, as all that take a lock do, that function is called at every end that has something to tell, and has an
//! instruction that the kernel executes itself; the count of bytes is on the stack by then. Both, and whether the arguments
//! are still where the caller reserved room for them, are proved from the code or not used. Pure.

use std::collections::HashSet;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use inferscope_common::go_place::{ARGUMENTS_KEPT, COUNT_ON_STACK, DEFERRED, GoPlace};

use super::super::site::class_of;
use crate::kernel::SiteClass;

/// Receiver, and address and length of the buffer: the first argument registers of Go's convention.
pub const ARGUMENTS: [Register; 3] = [Register::RAX, Register::RBX, Register::RCX];

/// The goroutine.
pub const GOROUTINE: Register = Register::R14;

/// Where the current stack's guard is in `runtime.g`: what every function that uses stack compares with.
const STACK_GUARD: u64 = 16;

/// Instructions before the check of the stack: one or two, that compute what is compared.
const MAX_PROLOGUE: usize = 4;

/// A function's instructions.
pub struct Body {
    address: u64,
    len: u32,
    instructions: Vec<Instruction>,
    targets: HashSet<u64>,
    /// From the stack pointer in the body to the return address.
    frame: u64,
    /// Place of the first instruction of the body.
    body: usize,
}

/// A place where a call is over. What it says of the place lacks the way to the method table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Virtual address.
    pub address: u64,
    /// What a probe costs there.
    pub class: SiteClass,
    /// What stands where.
    pub place: GoPlace,
}

impl Body {
    /// Decodes a function; `None` if anything in it is no instruction, or it does not return.
    pub fn decode(address: u64, code: &[u8]) -> Option<Self> {
        let instructions = decode(address, code)?;
        let targets = instructions.iter().filter(|instruction| is_branch(instruction));
        let targets = targets.map(Instruction::near_branch_target).collect();
        let returns = instructions.iter().any(|instruction| instruction.flow_control() == FlowControl::Return);
        let (frame, body) = frame_of(&instructions)?;
        let len = u32::try_from(code.len()).ok()?;
        returns.then_some(Self { address, len, instructions, targets, frame, body })
    }

    /// Whether it checks its stack against the goroutine in `r14`: whether it has Go's register convention.
    pub fn uses_registers(&self) -> bool {
        self.instructions.iter().take(self.body).any(is_stack_check)
    }

    /// Every place where a call is over, given those functions that may be deferred by it, and where
    /// `runtime.deferreturn` is.
    pub fn ends(&self, deferred: &[(u64, &[u8])], deferreturn: Option<u64>) -> Vec<End> {
        let kept = if self.keeps_arguments() { ARGUMENTS_KEPT } else { 0 };
        if let Some(end) = self.deferred_end(deferred, deferreturn) {
            return vec![End { place: GoPlace { flags: end.place.flags | kept, ..end.place }, ..end }];
        }
        let returns = self.instructions.iter().filter(|instruction| instruction.flow_control() == FlowControl::Return);
        let end = |instruction: &Instruction| End {
            address: instruction.ip(),
            class: class_of(instruction),
            place: GoPlace { flags: kept, ..Default::default() },
        };
        returns.map(end).collect()
    }

    /// Whether the arguments are stored behind the return address before anything happens, and nothing else ever is.
    pub fn keeps_arguments(&self) -> bool {
        let mut info = InstructionInfoFactory::new();
        let home = |argument: usize| self.frame + 8 + 8 * argument as u64;
        let mut changed = [false; ARGUMENTS.len()];
        let mut stored = [false; ARGUMENTS.len()];
        let mut entry = true;
        for (n, instruction) in self.instructions.iter().enumerate() {
            let in_entry = entry && n >= self.body;
            entry &= n < self.body || instruction.flow_control() == FlowControl::Next;
            let argument = (0..ARGUMENTS.len()).find(|&argument| {
                in_entry && !changed[argument] && is_store(instruction, home(argument), ARGUMENTS[argument])
            });
            if let Some(argument) = argument {
                stored[argument] = true;
                continue;
            }
            let info = info.info(instruction);
            if entry || in_entry {
                for used in info.used_registers().iter().filter(|used| writes(used.access())) {
                    if let Some(argument) = ARGUMENTS.iter().position(|one| *one == used.register().full_register()) {
                        changed[argument] = true;
                    }
                }
            }
            let touches = info.used_memory().iter().filter(|memory| memory.base() == Register::RSP).any(|memory| {
                let end = memory.displacement().saturating_add(memory.memory_size().size() as u64);
                let address_taken = instruction.code() == Code::Lea_r64_m;
                (writes(memory.access()) || address_taken)
                    && (memory.index() != Register::None || (memory.displacement() < home(3) && end > home(0)))
            });
            let address_taken = instruction.code() == Code::Lea_r64_m
                && instruction.memory_base() == Register::RSP
                && (home(0)..home(3)).contains(&instruction.memory_displacement64());
            if touches || address_taken {
                return false;
            }
        }
        stored == [true; ARGUMENTS.len()]
    }

    /// The end in a deferred function, if every return is behind one, or has nothing to tell.
    fn deferred_end(&self, deferred: &[(u64, &[u8])], deferreturn: Option<u64>) -> Option<End> {
        let slot = self.count_slot(deferreturn)?;
        // The first one that is deferred is the last one that is called, on every way out.
        let mentioned = self
            .instructions
            .iter()
            .filter(|instruction| instruction.code() == Code::Lea_r64_m && instruction.memory_base() == Register::RIP);
        let mut sites = mentioned.filter_map(|instruction| {
            let target = instruction.memory_displacement64();
            let (address, code) = deferred.iter().find(|(address, _)| *address == target)?;
            let (site, moved) = site_behind_check(*address, code)?;
            Some((site, u32::try_from(moved).ok()?))
        });
        let (address, moved) = sites.next()?;
        let frame = u32::try_from(self.frame).ok()?;
        let place = GoPlace {
            itab: 0,
            function: self.address.wrapping_sub(address) as i64,
            function_len: self.len,
            frame: moved.checked_add(8)?.checked_add(frame)?,
            count: frame.checked_sub(u32::try_from(slot).ok()?)?,
            called_from: moved,
            flags: COUNT_ON_STACK | DEFERRED,
            pad: 0,
        };
        Some(End { address, class: SiteClass::Emulated, place })
    }

    /// Where on the stack the count of bytes is when deferred functions are called: the displacement from the stack pointer that
    /// every return takes it from.
    fn count_slot(&self, deferreturn: Option<u64>) -> Option<u64> {
        let mut slot = None;
        let mut behind_call = false;
        for (n, instruction) in self.instructions.iter().enumerate() {
            if instruction.flow_control() != FlowControl::Return {
                continue;
            }
            let before = self.instructions[..n].iter().rposition(|one| one.flow_control() != FlowControl::Next)?;
            // Padding, which nothing goes through.
            let padding = self.instructions[before + 1..n].iter().take_while(|one| one.mnemonic() == Mnemonic::Nop);
            let block = &self.instructions[before + 1 + padding.count()..n];
            let before = &self.instructions[before];
            // Whatever comes in from elsewhere has not passed what stands before.
            let entered = |one: &Instruction| self.targets.contains(&one.ip());
            if block.iter().skip(1).any(entered) || entered(instruction) {
                return None;
            }
            let (from, zeroed) = result_of(block)?;
            match before.flow_control() {
                // By a panic that was recovered from, which neither function does.
                FlowControl::Call if Some(before.near_branch_target()) == deferreturn => {}
                FlowControl::IndirectCall if !block.first().is_some_and(entered) => behind_call = true,
                _ if zeroed => {}
                _ => return None,
            }
            if from.is_some_and(|from| *slot.get_or_insert(from) != from) {
                return None;
            }
        }
        slot.filter(|_| behind_call)
    }
}

/// Where a block leaves its result from: the displacement that `rax` is loaded from, if it is, and whether it is zero for
/// certain. `None` if neither is known.
fn result_of(block: &[Instruction]) -> Option<(Option<u64>, bool)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Value {
        Slot(u64),
        Zero,
    }
    let mut info = InstructionInfoFactory::new();
    let mut values: [Option<Value>; 16] = [None; 16];
    let mut zeroed: Option<u64> = None;
    for instruction in block {
        let on_stack = instruction.memory_base() == Register::RSP && instruction.memory_index() == Register::None;
        let value = match instruction.code() {
            Code::Mov_r64_rm64 if instruction.op1_kind() == OpKind::Memory && on_stack => {
                Some(Value::Slot(instruction.memory_displacement64()))
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64
                if instruction.op0_kind() == OpKind::Register && instruction.op1_kind() == OpKind::Register =>
            {
                values[instruction.op1_register().full_register().number()]
            }
            Code::Xor_r32_rm32 | Code::Xor_rm32_r32 if instruction.op0_register() == instruction.op1_register() => {
                Some(Value::Zero)
            }
            Code::Mov_rm64_imm32 if on_stack && instruction.immediate32to64() == 0 => {
                zeroed = Some(instruction.memory_displacement64());
                continue;
            }
            _ => None,
        };
        for used in info.info(instruction).used_registers().iter().filter(|used| writes(used.access())) {
            let full = used.register().full_register();
            if full.is_gpr64() {
                values[full.number()] = value;
            }
        }
    }
    match values[Register::RAX.number()]? {
        Value::Slot(slot) => Some((Some(slot), zeroed == Some(slot))),
        Value::Zero => Some((None, true)),
    }
}

/// The place in a function of four arguments where it has begun for certain, and its arguments are in their registers or have
/// been stored where its caller reserves room for them.
pub fn past_check(address: u64, code: &[u8]) -> Option<End> {
    const FOUR: [Register; 4] = [Register::RAX, Register::RBX, Register::RCX, Register::RDI];
    let instructions = decode(address, code)?;
    let check = instructions.iter().take(MAX_PROLOGUE).position(is_stack_check)?;
    let first = check + 2;
    instructions.get(check + 1).filter(|instruction| instruction.is_jcc_short_or_near())?;
    let mut info = InstructionInfoFactory::new();
    let mut moved = 0;
    let mut changed = [false; FOUR.len()];
    let mut stored = [false; FOUR.len()];
    for instruction in &instructions[first..] {
        if class_of(instruction) == SiteClass::Emulated {
            let flags = match (changed.contains(&true), stored.contains(&false)) {
                (false, _) => 0,
                (true, false) => ARGUMENTS_KEPT,
                (true, true) => break,
            };
            let place = GoPlace { frame: u32::try_from(moved).ok()?, flags, ..Default::default() };
            return Some(End { address: instruction.ip(), class: SiteClass::Emulated, place });
        }
        if let Some(by) = stack_taken(instruction) {
            moved += by;
            continue;
        }
        let used = info.info(instruction);
        if instruction.flow_control() != FlowControl::Next
            || used.used_registers().iter().any(|used| writes(used.access()) && used.register() == Register::RSP)
        {
            break;
        }
        for (n, register) in FOUR.into_iter().enumerate() {
            let home = moved + 8 + 8 * n as u64;
            // The kind of record has one byte.
            let byte = instruction.code() == Code::Mov_rm8_r8 && register == Register::RBX;
            let store = instruction.op0_kind() == OpKind::Memory
                && (instruction.code() == Code::Mov_rm64_r64 || byte)
                && instruction.memory_base() == Register::RSP
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == home
                && instruction.op1_register().full_register() == register;
            stored[n] |= store && !changed[n];
            changed[n] |= used
                .used_registers()
                .iter()
                .any(|used| writes(used.access()) && used.register().full_register() == register);
        }
    }
    // Dear, but right: nothing has happened yet.
    let instruction = instructions.get(first)?;
    Some(End { address: instruction.ip(), class: class_of(instruction), place: GoPlace::default() })
}

/// The first instruction that the kernel executes itself, behind the check of the stack, which may be passed twice; and how far the
/// stack pointer has moved by then.
fn site_behind_check(address: u64, code: &[u8]) -> Option<(u64, u64)> {
    let instructions = decode(address, code)?;
    let mut info = InstructionInfoFactory::new();
    let mut moved = 0;
    let mut checks = false;
    for instruction in &instructions {
        if std::mem::take(&mut checks) && instruction.is_jcc_short_or_near() {
            continue;
        }
        if class_of(instruction) == SiteClass::Emulated {
            return Some((instruction.ip(), moved));
        }
        checks = is_stack_check(instruction);
        if let Some(by) = stack_taken(instruction) {
            moved += by;
            continue;
        }
        let used = info.info(instruction);
        let spoils = |register: Register| {
            let full = register.full_register();
            full == Register::RSP || full == GOROUTINE
        };
        let spoiled = used.used_registers().iter().any(|used| writes(used.access()) && spoils(used.register()));
        if spoiled || instruction.flow_control() != FlowControl::Next {
            return None;
        }
    }
    None
}

fn decode(address: u64, code: &[u8]) -> Option<Vec<Instruction>> {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let instructions: Vec<_> = decoder.into_iter().collect();
    (!instructions.iter().any(Instruction::is_invalid)).then_some(instructions)
}

/// How far a function moves the stack pointer before its body, and where the body begins.
fn frame_of(instructions: &[Instruction]) -> Option<(u64, usize)> {
    let mut pushed = 0;
    for (n, instruction) in instructions.iter().enumerate() {
        if let Some(by) = stack_taken(instruction) {
            return Some((pushed + by, n + 1));
        }
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => {}
            _ => return None,
        }
        if instruction.code() == Code::Push_r64 {
            pushed += 8;
        }
    }
    None
}

/// Bytes of stack that an instruction takes by subtracting.
fn stack_taken(instruction: &Instruction) -> Option<u64> {
    let subtracts = matches!(instruction.code(), Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::RSP;
    let by = subtracts.then(|| instruction.immediate(1))?;
    (by < 1 << 31).then_some(by)
}

/// `cmp` with the goroutine's stack guard.
fn is_stack_check(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Cmp_r64_rm64 | Code::Cmp_rm64_r64)
        && instruction.memory_base() == GOROUTINE
        && instruction.memory_displacement64() == STACK_GUARD
}

fn is_store(instruction: &Instruction, displacement: u64, register: Register) -> bool {
    instruction.code() == Code::Mov_rm64_r64
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.memory_displacement64() == displacement
        && instruction.op1_register() == register
}

fn is_branch(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where the function below stands, and the one that it defers.
    pub const AT: u64 = 0x1000;
    pub const DEFERRED_AT: u64 = 0x1080;

    /// The shape of `Read` as Go 1.26 compiles it: arguments kept, one return behind a deferred call, one with nothing read.
    pub const READ: [u8; 0x78] = [
        0x49, 0x3b, 0x66, 0x10, // cmp 0x10(%r14),%rsp
        0x76, 0x65, // jbe 0x106b
        0x55, // push %rbp
        0x48, 0x89, 0xe5, // mov %rsp,%rbp
        0x48, 0x83, 0xec, 0x58, // sub $0x58,%rsp
        0x48, 0x89, 0x44, 0x24, 0x68, // mov %rax,0x68(%rsp)
        0x48, 0x89, 0x4c, 0x24, 0x78, // mov %rcx,0x78(%rsp)
        0x48, 0x89, 0x5c, 0x24, 0x70, // mov %rbx,0x70(%rsp)
        0x48, 0x8d, 0x3d, 0x5c, 0, 0, 0, // lea 0x1080(%rip),%rdi
        0x48, 0x89, 0x7c, 0x24, 0x50, // mov %rdi,0x50(%rsp)
        0x48, 0x85, 0xc9, // test %rcx,%rcx
        0x74, 0x1d, // je 0x104b
        0x48, 0x89, 0x4c, 0x24, 0x20, // mov %rcx,0x20(%rsp)
        0x48, 0x8b, 0x54, 0x24, 0x50, // mov 0x50(%rsp),%rdx
        0x48, 0x8b, 0x02, // mov (%rdx),%rax
        0xff, 0xd0, // call *%rax
        0x48, 0x8b, 0x44, 0x24, 0x20, // mov 0x20(%rsp),%rax
        0x48, 0x83, 0xc4, 0x58, // add $0x58,%rsp
        0x5d, // pop %rbp
        0xc3, // ret
        0x0f, 0x1f, 0x00, // nop: alignment
        0x48, 0xc7, 0x44, 0x24, 0x20, 0, 0, 0, 0, // movq $0,0x20(%rsp)
        0x48, 0x89, 0x44, 0x24, 0x30, // mov %rax,0x30(%rsp)
        0x48, 0x8b, 0x54, 0x24, 0x20, // mov 0x20(%rsp),%rdx
        0x48, 0x89, 0xd0, // mov %rdx,%rax
        0x48, 0x83, 0xc4, 0x58, // add $0x58,%rsp
        0x5d, // pop %rbp
        0xc3, // ret
        0x0f, 0x1f, 0x40, 0x00, // nop: alignment
        0xe8, 0, 0, 0, 0, // call runtime.morestack
        0xeb, 0x8e, // jmp 0x1000
        0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, // padding
    ];

    /// What it defers: a check of the stack, and a push behind it.
    pub const UNLOCK: [u8; 16] = [
        0x49, 0x3b, 0x66, 0x10, // cmp 0x10(%r14),%rsp
        0x76, 0x08, // jbe
        0x55, // push %rbp
        0x48, 0x89, 0xe5, // mov %rsp,%rbp
        0x5d, // pop %rbp
        0xc3, // ret
        0xcc, 0xcc, 0xeb, 0xf0, // jmp to the start
    ];

    fn ends(code: &[u8]) -> Vec<End> {
        Body::decode(AT, code).unwrap().ends(&[(DEFERRED_AT, &UNLOCK)], None)
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut code = READ.to_vec();
        code[at..at + bytes.len()].copy_from_slice(bytes);
        code
    }

    #[test]
    fn a_call_is_over_in_the_function_that_it_defers() {
        let body = Body::decode(AT, &READ).unwrap();
        assert!(body.uses_registers() && body.keeps_arguments());
        let place = GoPlace {
            itab: 0,
            function: -0x86,
            function_len: 0x78,
            frame: 0x58 + 8 + 8,
            count: 0x60 - 0x20,
            called_from: 0,
            flags: COUNT_ON_STACK | DEFERRED | ARGUMENTS_KEPT,
            pad: 0,
        };
        assert_eq!(ends(&READ), [End { address: DEFERRED_AT + 6, class: SiteClass::Emulated, place }]);
    }

    #[test]
    fn without_it_the_returns_are_the_ends() {
        let body = Body::decode(AT, &READ).unwrap();
        let found = body.ends(&[], None);
        let addresses: Vec<u64> = found.iter().map(|end| end.address).collect();
        assert_eq!(addresses, [AT + 0x47, AT + 0x66]);
        assert!(found.iter().all(|end| end.class == SiteClass::SingleStepped && end.place.flags == ARGUMENTS_KEPT));
    }

    #[test]
    fn a_return_that_tells_of_bytes_without_the_call_makes_the_returns_the_ends() {
        // The second return's count is one and not zero.
        let code = with(0x50, &[1]);
        assert_eq!(ends(&code).len(), 2);
    }

    #[test]
    fn a_way_around_the_call_makes_the_returns_the_ends() {
        // je leads behind the call.
        let code = with(0x2c, &[0x74, 0x0f]);
        assert_eq!(ends(&code).len(), 2);
    }

    #[test]
    fn an_argument_that_is_overwritten_is_not_kept() {
        // mov %rcx,0x70(%rsp) where the count is stored.
        let code = with(0x2e, &[0x48, 0x89, 0x4c, 0x24, 0x70]);
        assert!(!Body::decode(AT, &code).unwrap().keeps_arguments());
        // One that is never stored.
        let code = with(0x0e, &[0x48, 0x89, 0x44, 0x24, 0x60]);
        assert!(!Body::decode(AT, &code).unwrap().keeps_arguments());
        // One whose address is taken: lea 0x70(%rsp),%rdx.
        let code = with(0x33, &[0x48, 0x8d, 0x54, 0x24, 0x70]);
        assert!(!Body::decode(AT, &code).unwrap().keeps_arguments());
    }

    #[test]
    fn what_does_not_check_gos_stack_is_not_gos() {
        // cmp 0x10(%rcx),%rsp, as before Go 1.17.
        let code = with(0, &[0x48, 0x3b, 0x61, 0x10]);
        assert!(!Body::decode(AT, &code).unwrap().uses_registers());
        assert!(Body::decode(AT, &[0x06]).is_none());
        assert!(Body::decode(AT, &[]).is_none());
    }

    #[test]
    fn a_stack_pointer_that_has_moved_is_accounted_for() {
        // cmp; jbe; sub $0x10,%rsp; mov %rbp,8(%rsp); test %r12,%r12; jne: as in Go 1.19.
        let code = [
            0x49, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x48, 0x83, 0xec, 0x10, 0x48, 0x89, 0x6c, 0x24, 0x08, 0x4d, 0x85, 0xe4,
            0x75, 0x1a,
        ];
        assert_eq!(site_behind_check(0x2000, &code), Some((0x2012, 0x10)));
        // The check itself is passed again after the stack has grown.
        assert_eq!(site_behind_check(0x2000, &code[..6]), None);
    }

    #[test]
    fn a_write_is_taken_past_the_check_of_its_stack() {
        // As in Go 1.26: a push, with everything in its registers.
        let end = past_check(AT, &READ).unwrap();
        assert_eq!((end.address, end.class, end.place), (AT + 6, SiteClass::Emulated, GoPlace::default()));
        // As in Go 1.19: sub $0x40,%rsp; mov %rax,0x48(%rsp); mov %bl,0x50(%rsp); mov %rcx,0x58(%rsp); mov %rdi,0x60(%rsp);
        // lea (%rip),%rax; call.
        let old = [
            0x49, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x48, 0x83, 0xec, 0x40, 0x48, 0x89, 0x44, 0x24, 0x48, 0x88, 0x5c, 0x24,
            0x50, 0x48, 0x89, 0x4c, 0x24, 0x58, 0x48, 0x89, 0x7c, 0x24, 0x60, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xe8, 0, 0,
            0, 0,
        ];
        let end = past_check(AT, &old).unwrap();
        let place = GoPlace { frame: 0x40, flags: ARGUMENTS_KEPT, ..Default::default() };
        assert_eq!((end.address, end.class, end.place), (AT + 0x24, SiteClass::Emulated, place));
        // One of them is stored elsewhere: back to where nothing has happened.
        let mut other = old;
        other[14] = 0x40;
        let end = past_check(AT, &other).unwrap();
        assert_eq!((end.address, end.class, end.place), (AT + 6, SiteClass::SingleStepped, GoPlace::default()));
        assert_eq!(past_check(AT, &UNLOCK[4..]), None, "no check");
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(flips in prop::collection::vec((0..READ.len(), any::<u8>()), 1..8)) {
            let mut code = READ.to_vec();
            for (at, to) in flips {
                code[at] = to;
            }
            if let Some(body) = Body::decode(AT, &code) {
                let ends = body.ends(&[(DEFERRED_AT, &UNLOCK)], Some(AT));
                prop_assert!(ends.len() <= code.len());
            }
            let _place_or_none = past_check(AT, &code);
        }
    }
}
