//! Proof, from the code, that a function begins at an address: every way from there through the code is walked, and at
//! every call the stack is where the calling convention wants it, and at every way out the return address is on top.
//!
//! Anywhere but at a function's first instruction that does not come out. It matters because a probe on a return writes to
//! the top of the stack: in the middle of a function it would break the program. On the way the constants in the argument
//! registers are followed, which is what the calls that report errors are told by. Pure but for the reading of code.

use std::collections::{HashMap, HashSet};

use iced_x86::{
    Code, ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind,
    Register,
};

use super::{
    memory::Memory,
    references::names,
    registers::{Frame, Values},
    texts::Text,
};

/// Instructions of one function that are walked. The longest TLS function that was seen has 700.
const MAX_STEPS: u64 = 4096;

/// Instructions from the place where ways join to the call that they share.
const MAX_SHARED: usize = 24;

/// Instructions that are walked behind a jump to what seems to be another function.
const MAX_BEYOND: u32 = 64;

/// Calls of a function that may turn out not to return.
const MAX_ENDS: usize = 8;

/// How far the walk may be from where it began: a function's unlikely part may lie elsewhere, but there a jump without a
/// frame is a call of another function.
const NEAR: u64 = 64 << 10;

/// What is known of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Calls with a string's address among their arguments: which string, and the argument registers.
    pub sites: Vec<(usize, [Option<u64>; 6])>,
    /// Where its own jumps lead.
    pub jumps: HashSet<u64>,
    /// Where the addresses of strings stand in its code.
    pub operands: HashSet<u64>,
    /// What it calls directly.
    pub calls: Vec<u64>,
    /// It writes to memory that is not on its stack.
    pub stores: bool,
    /// Ways out that were seen.
    exits: usize,
}

/// Why an address is none that a function begins at. The call is one after which the code need not go on, and which came
/// before the contradiction.
struct Contradiction {
    after: Option<u64>,
}

/// Walks the code from an address on; `None` if it is not proved that a function begins there. `budget` is what may be
/// walked in all.
pub fn prove(memory: &mut Memory<'_>, start: u64, texts: &[Text], budget: &mut u64) -> Option<Walked> {
    let mut ends = HashSet::new();
    for _ in 0..=MAX_ENDS {
        let mut walk =
            Walk { memory, texts, start, ends: &ends, budget, walked: Walked::default(), seen: HashMap::new() };
        match walk.run() {
            Ok(()) => return Some(walk.walked).filter(|walked| walked.exits > 0),
            // A call of a function that never returns is followed by whatever comes next in the file.
            Err(Contradiction { after: Some(call) }) if ends.insert(call) => {}
            Err(_) => return None,
        }
    }
    None
}

struct Walk<'w, 'f> {
    memory: &'w mut Memory<'f>,
    texts: &'w [Text],
    start: u64,
    /// Calls that do not return.
    ends: &'w HashSet<u64>,
    budget: &'w mut u64,
    walked: Walked,
    /// Depth of the stack at each instruction.
    seen: HashMap<u64, Option<i64>>,
}

/// A way through the code, at one instruction.
#[derive(Clone, Copy)]
struct Way {
    at: u64,
    frame: Frame,
    values: Values,
    after: Option<u64>,
    /// Behind a jump without a frame, which is a call of another function if this is one: how far it is still looked
    /// whether that is so.
    beyond: Option<u32>,
}

impl Walk<'_, '_> {
    fn run(&mut self) -> Result<(), Contradiction> {
        let mut info = InstructionInfoFactory::new();
        let mut ways =
            vec![Way { at: self.start, frame: Frame::default(), values: Values::default(), after: None, beyond: None }];
        // What belongs to the function goes first.
        let mut beyond = Vec::new();
        while let Some(mut way) = ways.pop().or_else(|| beyond.pop()) {
            loop {
                let contradiction = Contradiction { after: way.after };
                if let Some(depth) = self.seen.get(&way.at) {
                    if depth.is_some() && way.frame.depth.is_some() && *depth != way.frame.depth {
                        return Err(contradiction);
                    }
                    if way.beyond.is_none() {
                        self.follow_shared(way);
                    }
                    break;
                }
                self.seen.insert(way.at, way.frame.depth);
                if self.seen.len() as u64 > MAX_STEPS || *self.budget == 0 {
                    return Err(contradiction);
                }
                *self.budget -= 1;
                let Some((instruction, offsets)) = self.decode(way.at) else { return Err(contradiction) };
                match &mut way.beyond {
                    None => self.note(&instruction, offsets, &way, &mut info),
                    Some(0) => break,
                    Some(left) => *left -= 1,
                }
                if !way.frame.step(&instruction, &mut info) {
                    return Err(contradiction);
                }
                let branches = if way.beyond.is_some() { &mut beyond } else { &mut ways };
                let goes_on = self.go_on(&instruction, &mut way, branches)?;
                way.values.step(&instruction, &way.frame, &mut info);
                match (goes_on, way.beyond) {
                    (true, _) => {}
                    (false, None) if instruction.is_jmp_short_or_near() => {
                        beyond.push(Way { at: instruction.near_branch_target(), beyond: Some(MAX_BEYOND), ..way });
                        break;
                    }
                    (false, _) => break,
                }
            }
        }
        Ok(())
    }

    /// Moves to the next instruction; false where the way ends.
    fn go_on(&mut self, instruction: &Instruction, way: &mut Way, ways: &mut Vec<Way>) -> Result<bool, Contradiction> {
        let contradiction = Err(Contradiction { after: way.after });
        let depth = way.frame.depth;
        let at = way.at;
        way.at = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::Next => Ok(true),
            FlowControl::ConditionalBranch if instruction.is_jcc_short_or_near() => {
                let target = instruction.near_branch_target();
                if depth != Some(0) || target.abs_diff(self.start) < NEAR {
                    ways.push(Way { at: target, ..*way });
                }
                Ok(true)
            }
            FlowControl::UnconditionalBranch => {
                let target = instruction.near_branch_target();
                if depth == Some(0) && way.beyond.is_none() {
                    self.call(&way.values, Some(target));
                    self.walked.exits += 1;
                    return Ok(false);
                }
                way.at = target;
                Ok(true)
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                // The caller's own call has put eight bytes on a stack that was aligned to sixteen.
                if depth.is_some_and(|depth| depth.rem_euclid(16) != 8) {
                    return contradiction;
                }
                let direct = instruction.is_call_near().then(|| instruction.near_branch_target());
                if way.beyond.is_none() {
                    self.call(&way.values, direct);
                }
                if self.ends.contains(&at) {
                    return Ok(false);
                }
                if self.may_be_last(way.at) {
                    way.after = Some(at);
                }
                Ok(true)
            }
            FlowControl::Return if depth == Some(0) && instruction.op_count() == 0 => {
                self.walked.exits += usize::from(way.beyond.is_none());
                Ok(false)
            }
            // Through a table that is not read, or to another function.
            FlowControl::IndirectBranch => {
                self.walked.exits += usize::from(depth == Some(0) && way.beyond.is_none());
                Ok(false)
            }
            FlowControl::Exception | FlowControl::Interrupt => Ok(false),
            _ => contradiction,
        }
    }

    /// Whether a function may begin where a call would return to.
    fn may_be_last(&mut self, next: u64) -> bool {
        let Some(code) = self.memory.code(next) else { return true };
        let begins = matches!(
            code,
            [0xcc | 0x90, ..]
                | [0x66, 0x90 | 0x2e | 0x66 | 0x0f, ..]
                | [0x0f, 0x1f, ..]
                | [0x55, 0x48, 0x89, 0xe5, ..]
                | [0xf3, 0x0f, 0x1e, 0xfa, ..]
        );
        begins || next.is_multiple_of(16)
    }

    /// Follows a way that joins another one to the next call: what it brings along is what this call gets from here.
    fn follow_shared(&mut self, mut way: Way) {
        let mut info = InstructionInfoFactory::new();
        for _ in 0..MAX_SHARED {
            let Some((instruction, _)) = self.decode(way.at) else { return };
            if !way.frame.step(&instruction, &mut info) {
                return;
            }
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::ConditionalBranch => way.at = instruction.next_ip(),
                FlowControl::UnconditionalBranch if way.frame.depth != Some(0) => {
                    way.at = instruction.near_branch_target();
                }
                FlowControl::UnconditionalBranch | FlowControl::Call | FlowControl::IndirectCall => {
                    return self.call(&way.values, None);
                }
                _ => return,
            }
            way.values.step(&instruction, &way.frame, &mut info);
        }
    }

    /// A call with these arguments.
    fn call(&mut self, values: &Values, target: Option<u64>) {
        if let Some(target) = target.filter(|target| !self.walked.calls.contains(target)) {
            self.walked.calls.push(target);
        }
        let texts = self.texts;
        let named = values.arguments.iter().flatten().find_map(|value| names(texts, *value));
        if let Some(text) = named {
            let site = (text, values.arguments);
            if !self.walked.sites.contains(&site) {
                self.walked.sites.push(site);
            }
        }
    }

    /// Notes what is asked of a function.
    fn note(
        &mut self,
        instruction: &Instruction,
        offsets: ConstantOffsets,
        way: &Way,
        info: &mut InstructionInfoFactory,
    ) {
        if instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near() {
            self.walked.jumps.insert(instruction.near_branch_target());
        }
        let (value, offset) = match instruction.code() {
            Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => {
                (instruction.ip_rel_memory_address(), offsets.displacement_offset())
            }
            Code::Mov_r32_imm32 | Code::Mov_rm64_imm32 | Code::Pushq_imm32 if is_plain(instruction) => {
                (u64::from(instruction.immediate32()), offsets.immediate_offset())
            }
            _ => (0, 0),
        };
        if names(self.texts, value).is_some() {
            self.walked.operands.insert(way.at + offset as u64);
        }
        let on_stack = |base: Register| base == Register::RSP || (base == Register::RBP && way.frame.base.is_some());
        let writes = |access| matches!(access, OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite);
        let used = info.info(instruction);
        self.walked.stores |=
            used.used_memory().iter().any(|memory| writes(memory.access()) && !on_stack(memory.base()));
    }

    fn decode(&mut self, at: u64) -> Option<(Instruction, ConstantOffsets)> {
        let mut decoder = Decoder::with_ip(64, self.memory.code(at)?, at, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then(|| (instruction, decoder.get_constant_offsets(&instruction)))
    }
}

/// Whether its first operand is no memory.
fn is_plain(instruction: &Instruction) -> bool {
    instruction.op0_kind() != OpKind::Memory
}
