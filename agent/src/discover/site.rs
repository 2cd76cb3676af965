//! Where in a function a probe costs least.
//!
//! The kernel executes some instructions itself when a probe sits on them (`arch/x86/kernel/uprobes.c`: `push`, `nop`, `jmp`,
//! `jcc`, `call`); every other one it executes out of line with a trap, which costs ten times as much. The first
//! instruction of a function is often of the second kind (`endbr64`, `sub`), one of the first kind is a few bytes on. Owns
//! the rule that makes such a place as good as the entry: the arguments have not been touched, every call passes it, and,
//! if the return is wanted too, the return address is still on top of the stack. Pure: code bytes in, a place out.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

use crate::kernel::SiteClass;

/// Bytes of a function that are looked at. An entry block that is longer has no place that is worth it.
pub const ENTRY_BYTES: u64 = 64;

/// A place for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes from the function's first one.
    pub offset: u64,
    /// What it costs.
    pub class: SiteClass,
}

/// Integer argument registers of the System V calling convention, in order.
pub const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Chooses the place for the probe of a function that takes `arguments` integer arguments, given its first bytes. The
/// entry itself if nothing better is certain.
pub fn choose(code: &[u8], arguments: usize, wants_return: bool) -> Site {
    choose_for(code, &ARGUMENTS[..arguments.min(ARGUMENTS.len())], wants_return)
}

/// The same for a function whose arguments are in registers of its own choice.
pub fn choose_for(code: &[u8], needed: &[Register], wants_return: bool) -> Site {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut entry = None;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        let class = class_of(&instruction);
        entry = entry.or(Some(class));
        if class == SiteClass::Emulated {
            return Site { offset: instruction.ip(), class };
        }
        // What lies behind a branch, or behind a change of what is needed, is no entry any more.
        let used = info.info(&instruction);
        let spoils = used.used_registers().iter().any(|used| {
            let writes = matches!(
                used.access(),
                OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
            );
            let full = used.register().full_register();
            writes && (needed.contains(&full) || (wants_return && full == Register::RSP))
        });
        if spoils || instruction.flow_control() != FlowControl::Next {
            break;
        }
    }
    Site { offset: 0, class: entry.unwrap_or(SiteClass::Undecoded) }
}

/// What the kernel does with an instruction under a probe. Prefixes are not counted on, although some are allowed.
pub fn class_of(instruction: &Instruction) -> SiteClass {
    let emulated = match instruction.code() {
        Code::Push_r64 | Code::Nopd | Code::Nopq | Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Call_rel32_64 => true,
        _ => instruction.is_jcc_short_or_near(),
    };
    if emulated { SiteClass::Emulated } else { SiteClass::SingleStepped }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulated(offset: u64) -> Site {
        Site { offset, class: SiteClass::Emulated }
    }

    const STEPPED_ENTRY: Site = Site { offset: 0, class: SiteClass::SingleStepped };

    #[test]
    fn a_push_at_the_entry_is_the_entry() {
        assert_eq!(choose(&[0x41, 0x55, 0x41, 0x54, 0x55], 4, true), emulated(0));
        assert_eq!(choose(&[0x55, 0x48, 0x89, 0xe5], 4, true), emulated(0));
    }

    #[test]
    fn an_end_branch_is_stepped_over() {
        // endbr64; push %rbp
        assert_eq!(choose(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55], 4, true), emulated(4));
    }

    #[test]
    fn a_branch_behind_a_test_sees_the_arguments() {
        // test %rdi,%rdi; je +5; push %rbx
        let code = [0x48, 0x85, 0xff, 0x74, 0x05, 0x53];
        assert_eq!(choose(&code, 1, false), emulated(3));
        assert_eq!(choose(&code, 1, true), emulated(3));
    }

    #[test]
    fn a_moved_stack_ends_the_search_for_a_return_probe_only() {
        // sub $0x18,%rsp; xor %eax,%eax; test %edx,%edx; js +0x2f
        let code = [0x48, 0x83, 0xec, 0x18, 0x31, 0xc0, 0x85, 0xd2, 0x78, 0x2f];
        assert_eq!(choose(&code, 3, true), STEPPED_ENTRY);
        assert_eq!(choose(&code, 3, false), emulated(8));
    }

    #[test]
    fn an_argument_that_is_overwritten_ends_the_search() {
        // mov %esi,%edx; push %rbx: the third argument is gone, the first two are not.
        let code = [0x89, 0xf2, 0x53];
        assert_eq!(choose(&code, 3, true), STEPPED_ENTRY);
        assert_eq!(choose(&code, 2, true), emulated(2));
    }

    #[test]
    fn nothing_behind_a_return_or_an_indirect_jump() {
        assert_eq!(choose(&[0xc3, 0x55], 1, true), STEPPED_ENTRY);
        assert_eq!(choose(&[0xff, 0xe0, 0x55], 1, true), STEPPED_ENTRY);
    }

    #[test]
    fn what_cannot_be_decoded_is_probed_at_its_entry() {
        assert_eq!(choose(&[], 1, true), Site { offset: 0, class: SiteClass::Undecoded });
        assert_eq!(choose(&[0x06], 1, true), Site { offset: 0, class: SiteClass::Undecoded });
    }
}
