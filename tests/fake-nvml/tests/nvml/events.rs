//! Errors that the driver reports.

use std::{
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{EventSet, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError};

use nvml_wrapper_sys::bindings as sys;

use super::*;
use inferscope_fake_nvml::timeline::monotonic_ns;

/// Longer than any test takes that works.
const LONG: u32 = 60_000;

fn registered<'a>(fake: &'a Fake, devices: &[u32], kinds: EventTypes) -> EventSet<'a> {
    let set = fake.nvml.create_event_set().unwrap();
    devices.iter().fold(set, |set, index| {
        fake.device(*index).register_events(kinds, set).unwrap_or_else(|error| panic!("{:?}", error.error))
    })
}

/// The next event: its device's index and XID.
fn next(set: &EventSet<'_>, timeout: u32) -> Result<(u32, Option<XidError>), NvmlError> {
    let event = set.wait(timeout)?;
    Ok((event.device.index()?, event.event_data))
}

fn xid(code: u64) -> Option<XidError> {
    Some(XidError::Value(code))
}

#[test]
fn an_xid_is_given_once_to_each_set() {
    let fake = Fake::new(&Header::new([Device::h100(0), Device::h100(1)]).manual());
    let mut timeline = Timeline::open(fake.timeline.path()).unwrap();
    timeline.write(&[Line::at(1, 0).xid(13), Line::now(10)]).unwrap();
    let first = registered(&fake, &[0, 1], EventTypes::CRITICAL_XID_ERROR);
    let second = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR);
    timeline
        .write(&[Line::at(12, 0).xid(79), Line::at(11, 1).xid(31), Line::at(20, 0).xid(48), Line::now(15)])
        .unwrap();
    // What was before the registration is nobody's; the rest comes in order of time.
    assert_eq!(next(&first, LONG).unwrap(), (1, xid(31)));
    assert_eq!(next(&first, LONG).unwrap(), (0, xid(79)));
    assert!(matches!(next(&first, 0), Err(NvmlError::Timeout)));
    assert_eq!(next(&second, LONG).unwrap(), (0, xid(79)));
    assert!(matches!(next(&second, 0), Err(NvmlError::Timeout)));
    timeline.write(&[Line::now(20)]).unwrap();
    assert_eq!(next(&first, LONG).unwrap(), (0, xid(48)));
    first.release_events().unwrap();
}

#[test]
fn a_set_has_only_the_kinds_that_it_registered() {
    let fake = Fake::one();
    let mut timeline = Timeline::open(fake.timeline.path()).unwrap();
    assert_eq!(
        fake.device(0).supported_event_types().unwrap(),
        EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR
    );
    let xids = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR);
    let both = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR);
    timeline.write(&[Line::at(1, 0).ecc(1), Line::at(2, 0).xid(48), Line::now(3)]).unwrap();
    assert_eq!(next(&xids, LONG).unwrap(), (0, xid(48)));
    let event = both.wait(LONG).unwrap();
    assert_eq!((event.event_type, event.event_data), (EventTypes::DOUBLE_BIT_ECC_ERROR, None));
    assert_eq!(next(&both, LONG).unwrap(), (0, xid(48)));
    let set = fake.nvml.create_event_set().unwrap();
    let refused = fake.device(0).register_events(EventTypes::PSTATE_CHANGE, set).unwrap_err();
    assert!(matches!(refused.error, NvmlError::NotSupported));
}

#[test]
fn a_wait_takes_its_time() {
    let fake = Fake::one();
    let set = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR);
    let start = Instant::now();
    assert!(matches!(next(&set, 50), Err(NvmlError::Timeout)));
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_wait_ends_with_what_is_appended_and_holds_up_nobody() {
    let mut fake = Fake::one();
    let Fake { nvml, timeline, .. } = &mut fake;
    let device = nvml.device_by_index(0).unwrap();
    let set = nvml.create_event_set().unwrap();
    let set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || next(&set, LONG).unwrap());
        assert_eq!(device.power_usage().unwrap(), 120_000);
        timeline.write(&[Line::at(1, 0).xid(79), Line::now(1)]).unwrap();
        assert_eq!(waiting.join().unwrap(), (0, xid(79)));
    });
    assert!(start.elapsed() < Duration::from_millis(LONG.into()));
}

#[test]
fn a_wait_ends_when_the_scripts_time_comes() {
    let mut fake = Fake::new(&Header::new([Device::h100(0)]));
    let soon = monotonic_ns() + 400 * MS;
    fake.write(&[Line::at(soon, 0).xid(94)]);
    let set = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR);
    assert_eq!(next(&set, LONG).unwrap(), (0, xid(94)));
    // Not before, and sooner than the library would look by itself.
    assert!((soon..soon + 500 * MS).contains(&monotonic_ns()));
}

#[test]
fn a_lost_device_ends_the_wait_after_its_xid() {
    let fake = Fake::one();
    let set = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR);
    let mut timeline = Timeline::open(fake.timeline.path()).unwrap();
    timeline.write(&[Line::at(1, 0).xid(79), Line::at(1, 0).lost(true), Line::now(1)]).unwrap();
    assert_eq!(set.wait(LONG).unwrap().event_data, xid(79));
    assert!(matches!(next(&set, LONG), Err(NvmlError::GpuLost)));
    timeline.write(&[Line::at(2, 0).lost(false), Line::now(2)]).unwrap();
    assert!(matches!(next(&set, 0), Err(NvmlError::Timeout)));
}

#[test]
fn the_first_version_of_the_wait_writes_no_instance() {
    type Wait = unsafe extern "C" fn(sys::nvmlEventSet_t, *mut sys::nvmlEventData_t, u32) -> sys::nvmlReturn_t;
    let fake = Fake::one();
    let set = registered(&fake, &[0], EventTypes::CRITICAL_XID_ERROR);
    let mut timeline = Timeline::open(fake.timeline.path()).unwrap();
    timeline.write(&[Line::at(0, 0).xid(79)]).unwrap();
    let library = symbols(&fake);
    // SAFETY: this is its type.
    let wait: libloading::Symbol<'_, Wait> = unsafe { library.get(b"nvmlEventSetWait") }.unwrap();
    let mut data = sys::nvmlEventData_t {
        device: std::ptr::null_mut(),
        eventType: 0,
        eventData: 0,
        gpuInstanceId: 5,
        computeInstanceId: 6,
    };
    // SAFETY: the handle is used no longer than its set.
    let handle = unsafe { set.handle() };
    // SAFETY: there is a place for the event.
    assert_eq!(unsafe { wait(handle, &raw mut data, LONG) }, 0);
    assert_eq!((data.eventType, data.eventData, data.gpuInstanceId, data.computeInstanceId), (8, 79, 5, 6));
}
