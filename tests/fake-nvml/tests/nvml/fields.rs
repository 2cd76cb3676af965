//! Fields, by both schemes of numbers.

use nvml_wrapper::{
    enums::device::SampleValue, error::NvmlError, structs::device::FieldId, sys_exports::field_id as id,
};
use nvml_wrapper_sys::bindings as sys;

use super::*;
use inferscope_fake_nvml::timeline::Violation;

const OLD: &str = "580.65.06";
const NEW: &str = "580.95.05";

fn number(value: SampleValue) -> u64 {
    match value {
        SampleValue::U32(value) => value.into(),
        SampleValue::U64(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Values of fields, by their names, in the order of the names.
fn values(fake: &Fake, ids: &[u32]) -> Vec<Result<u64, NvmlError>> {
    let ids: Vec<FieldId> = ids.iter().copied().map(FieldId).collect();
    let values = fake.device(0).field_values_for(&ids).unwrap();
    values.into_iter().map(|sample| sample.unwrap().value.map(number)).collect()
}

fn all(fake: &Fake, ids: &[u32]) -> Vec<u64> {
    values(fake, ids).into_iter().map(Result::unwrap).collect()
}

/// Asks for a field without the wrapper, which neither passes a scope nor leaves the number as it is.
fn raw(fake: &Fake, field: u32, scope: u32) -> (u32, u64) {
    let device = fake.device(0);
    let mut value = sys::nvmlFieldValue_t {
        fieldId: field,
        scopeId: scope,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 0,
        nvmlReturn: sys::nvmlReturn_enum_NVML_ERROR_UNKNOWN,
        value: sys::nvmlValue_t { ullVal: 0 },
    };
    // SAFETY: the handle is used no longer than its device.
    let handle = unsafe { device.handle() };
    // SAFETY: the handle is valid, and one struct is given.
    assert_eq!(unsafe { fake.nvml.lib().nvmlDeviceGetFieldValues(handle, 1, &raw mut value) }, 0);
    // SAFETY: every bit of the union was set here or by the library.
    (value.nvmlReturn, unsafe { value.value.ullVal })
}

fn violated(driver: &str) -> Fake {
    let violation = Violation {
        power_ns: 1,
        thermal_ns: 2,
        software_thermal_ns: 3,
        hardware_thermal_ns: 4,
        power_brake_ns: 5,
        ..Violation::default()
    };
    Fake::with(
        &Header::new([Device::h100(0)]).manual().driver(driver),
        &[Line::at(0, 0).violation(violation), Line::now(1)],
    )
}

#[test]
fn violations_have_their_names_under_both_schemes() {
    for driver in [OLD, NEW] {
        let names = [
            id::NVML_FI_DEV_PERF_POLICY_POWER,
            id::NVML_FI_DEV_PERF_POLICY_THERMAL,
            id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
            id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
            id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
        ];
        assert_eq!(all(&violated(driver), &names), [1, 2, 3, 4, 5], "{driver}");
    }
}

#[test]
fn a_number_means_what_the_driver_takes_it_for() {
    let (old, new) = (violated(OLD), violated(NEW));
    assert_eq!([251, 252, 253].map(|n| raw(&old, n, 0)), [(0, 3), (0, 4), (0, 5)]);
    assert_eq!([269, 270, 271].map(|n| raw(&new, n, 0)), [(0, 3), (0, 4), (0, 5)]);
    // The same numbers of the other scheme are power smoothing, and no error tells.
    assert_eq!([269, 270, 271].map(|n| raw(&old, n, 0)), [(0, 0); 3]);
    assert_eq!([251, 252, 253].map(|n| raw(&new, n, 0)), [(0, 0); 3]);
}

#[test]
fn one_call_has_a_result_for_each_field() {
    let mut fake = Fake::one();
    fake.write(&[
        Line::at(0, 0).power_w(300.0).ecc(2),
        Line::call(0, "nvmlDeviceGetFieldValues").field(id::NVML_FI_DEV_POWER_INSTANT).returns(4),
        Line::now(1000 * MS),
    ]);
    let ids = [
        id::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        id::NVML_FI_DEV_POWER_INSTANT,
        id::NVML_FI_DEV_MEMORY_TEMP,
        id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL,
        id::NVML_FI_DEV_ENERGY,
    ];
    let values = values(&fake, &ids);
    assert!(matches!(
        values[..],
        [Ok(300_000), Err(NvmlError::NoPermission), Err(NvmlError::NotSupported), Ok(2), Ok(300_000)]
    ));
    fake.write(&[
        Line::call(1000 * MS, "nvmlDeviceGetFieldValues").field(id::NVML_FI_DEV_POWER_INSTANT),
        Line::call(1000 * MS, "nvmlDeviceGetFieldValues").returns(999),
    ]);
    assert!(matches!(fake.device(0).field_values_for(&[FieldId(186)]), Err(NvmlError::Unknown)));
    fake.write(&[Line::call(1000 * MS, "nvmlDeviceGetFieldValues")]);
    assert_eq!(all(&fake, &[id::NVML_FI_DEV_POWER_INSTANT]), [300_000]);
}

#[test]
fn average_power_is_of_the_last_second() {
    let mut fake = Fake::one();
    fake.write(&[Line::at(1500 * MS, 0).power_w(720.0), Line::now(2000 * MS)]);
    let ids = [id::NVML_FI_DEV_POWER_AVERAGE, id::NVML_FI_DEV_POWER_INSTANT, id::NVML_FI_DEV_POWER_CURRENT_LIMIT];
    assert_eq!(all(&fake, &ids), [420_000, 720_000, 700_000]);
}

#[test]
fn traffic_is_counted() {
    let header = Header::new([Device::h100(0).nvlinks(18)]).manual();
    let rates = Line::at(0, 0).pcie_tx_kib_s(10).pcie_rx_kib_s(20).nvlink_tx_kib_s(100).nvlink_rx_kib_s(200);
    let fake = Fake::with(&header, &[rates, Line::now(2000 * MS)]);
    let pcie = [id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES, id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES];
    assert_eq!(all(&fake, &pcie), [20 * 1024, 40 * 1024]);
    let sent = id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX;
    // The wrapper's scope is link 0.
    assert_eq!(all(&fake, &[sent, id::NVML_FI_DEV_NVLINK_LINK_COUNT]), [200, 18]);
    assert_eq!(raw(&fake, sent, 17), (0, 200));
    assert_eq!(raw(&fake, sent, u32::MAX), (0, 3600));
    assert_eq!(raw(&fake, id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, u32::MAX), (0, 7200));
    assert_eq!(raw(&fake, sent, 18).0, sys::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT);
    let without = Fake::one();
    assert_eq!(raw(&without, sent, u32::MAX).0, sys::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED);
}

#[test]
fn pcie_counters_wrap() {
    // 4 GiB per second.
    let rates = Line::at(0, 0).pcie_tx_kib_s(4 << 20).pcie_rx_kib_s(1 << 20);
    let fake = Fake::with(&Header::new([Device::h100(0)]).manual(), &[rates, Line::now(1500 * MS)]);
    let pcie = [id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES, id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES];
    assert_eq!(all(&fake, &pcie), [2 << 30, 3 << 29]);
}
