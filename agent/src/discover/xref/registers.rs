//! What a walk through code knows of the stack and of the argument registers.

use iced_x86::{Code, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};

use crate::discover::site::ARGUMENTS;

/// Where the stack is, in bytes below the return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of the stack pointer; unknown after it was aligned or moved by a register.
    pub depth: Option<i64>,
    /// Of the frame pointer, where there is one.
    pub base: Option<i64>,
}

impl Default for Frame {
    fn default() -> Self {
        Self { depth: Some(0), base: None }
    }
}

impl Frame {
    /// What an instruction does to it; false if no compiler writes that.
    pub fn step(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) -> bool {
        let relative =
            |base: Option<i64>| base.and_then(|base| base.checked_sub(instruction.memory_displacement64() as i64));
        match instruction.code() {
            Code::Leaveq => {
                (self.depth, self.base) = (self.base.map(|base| base - 8), None);
                return true;
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                match (instruction.op0_register(), instruction.op1_register()) {
                    (Register::RBP, Register::RSP) => self.base = self.depth,
                    (Register::RSP, Register::RBP) => self.depth = self.base,
                    (Register::RBP, _) => self.base = None,
                    (Register::RSP, _) => self.depth = None,
                    _ => {}
                }
                return true;
            }
            Code::Lea_r64_m => {
                let from = match (instruction.memory_base(), instruction.memory_index()) {
                    (Register::RSP, Register::None) => relative(self.depth),
                    (Register::RBP, Register::None) => relative(self.base),
                    _ => None,
                };
                match instruction.op0_register() {
                    Register::RSP => self.depth = from,
                    Register::RBP => self.base = from,
                    _ => {}
                }
                return true;
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 if instruction.op0_register() == Register::RSP => {
                self.depth = self.depth.and_then(|depth| depth.checked_sub(instruction.immediate(1) as i64));
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 if instruction.op0_register() == Register::RSP => {
                self.depth = self.depth.and_then(|depth| depth.checked_add(instruction.immediate(1) as i64));
            }
            _ if instruction.is_stack_instruction() => {
                // A call's own push and a return's pop are over when the next instruction runs.
                let moves = instruction.stack_pointer_increment();
                if !instruction.is_call_near() && !instruction.is_call_near_indirect() && !is_return(instruction) {
                    self.depth = self.depth.map(|depth| depth - i64::from(moves));
                }
                if instruction.op_count() == 1 && instruction.op0_register() == Register::RBP && moves > 0 {
                    self.base = None;
                }
            }
            _ => {
                for used in info.info(instruction).used_registers() {
                    if is_written(used.access()) {
                        match used.register().full_register() {
                            Register::RSP => self.depth = None,
                            Register::RBP => self.base = None,
                            _ => {}
                        }
                    }
                }
            }
        }
        // What is above the return address belongs to the caller.
        self.depth.is_none_or(|depth| depth >= 0)
    }
}

/// Constants in the argument registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// In order of the calling convention.
    pub arguments: [Option<u64>; 6],
    /// A constant that was pushed last, and how deep the stack was then: small ones are loaded through it.
    pushed: Option<(i64, u64)>,
}

impl Values {
    /// What an instruction does to them; `frame` is as it is after it.
    pub fn step(&mut self, instruction: &Instruction, frame: &Frame, info: &mut InstructionInfoFactory) {
        if instruction.is_call_near() || instruction.is_call_near_indirect() {
            *self = Self::default();
            return;
        }
        let pushed = self.pushed.filter(|(depth, _)| frame.depth.is_some_and(|now| now == depth - 8));
        let loaded = match instruction.code() {
            Code::Mov_r32_imm32 => Some(u64::from(instruction.immediate32())),
            Code::Mov_rm64_imm32 | Code::Mov_r64_imm64 => Some(instruction.immediate(1)),
            Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
            Code::Xor_r32_rm32 | Code::Xor_rm32_r32 if instruction.op0_register() == instruction.op1_register() => {
                Some(0)
            }
            Code::Pop_r64 => pushed.map(|(_, value)| value),
            _ => None,
        };
        for used in info.info(instruction).used_registers() {
            let place = ARGUMENTS.iter().position(|&argument| argument == used.register().full_register());
            if let Some(place) = place.filter(|_| is_written(used.access())) {
                self.arguments[place] = loaded;
            }
        }
        match instruction.code() {
            Code::Pushq_imm8 | Code::Pushq_imm32 => {
                self.pushed = frame.depth.map(|depth| (depth, instruction.immediate(0)));
            }
            _ if instruction.is_stack_instruction() => self.pushed = None,
            _ => {}
        }
    }
}

fn is_return(instruction: &Instruction) -> bool {
    instruction.flow_control() == iced_x86::FlowControl::Return
}

fn is_written(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite)
}
