use crate::abi::{
    BaseValue, DROP_REASONS, DownValue, Flows, GroupValue, PortValue, UpKey, UpValue, VmacKey,
};
use crate::config::XdpMode;
use crate::error::{DataplaneError, chain};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::{XdpLink, XdpMode as AyaXdpMode};
use aya::programs::{Program, ProgramError, SchedClassifier, TcAttachType, Xdp, tc};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Grows when the layout of a map or the meaning of a field changes: maps of another layout are not
/// taken over but made anew, with the fences shut.
const LAYOUT: u32 = 3;
/// Preference of our filters in clsact; away from the low numbers that others pick.
const FILTER_PRIORITY: u16 = 182;
const FILTER_HANDLE: u16 = 1;
/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
const BPF_FS: &str = "/sys/fs/bpf";

const XDP_PROGRAM: &str = "access_xdp";
const TC_PROGRAMS: [&str; 4] = ["access_ingress", "access_egress", "core_ingress", "core_egress"];

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tandem.bpf.o"));

/// The maps, taken over from a former process or new.
pub(crate) struct Maps {
    pub(crate) groups: Array<MapData, GroupValue>,
    pub(crate) vmacs: HashMap<MapData, VmacKey, u32>,
    pub(crate) ports: HashMap<MapData, u32, PortValue>,
    pub(crate) up: HashMap<MapData, UpKey, UpValue>,
    pub(crate) down: HashMap<MapData, [u8; 4], DownValue>,
    pub(crate) flows: Array<MapData, Flows>,
    pub(crate) bases: HashMap<MapData, u32, BaseValue>,
    pub(crate) drops: PerCpuArray<MapData, u64>,
    /// Networks whose addresses must be translated; the value means nothing.
    pub(crate) nat_networks: LpmTrie<MapData, [u8; 4], u32>,
    pub(crate) bans: LpmTrie<MapData, [u8; 4], u32>,
    /// Sources that are nobody's, with when they were noted.
    pub(crate) unknown: HashMap<MapData, UpKey, u64>,
}

/// Slot to end of the quorum lease, in ns of `CLOCK_BOOTTIME`.
pub(crate) type Fences = Array<MapData, u64>;

/// The loaded object and where its pins are.
#[derive(Debug)]
pub(crate) struct Programs {
    ebpf: Ebpf,
    pins: PathBuf,
}

/// Returns the error of an operation on a map.
pub(crate) fn map_error(map: &'static str) -> impl FnOnce(MapError) -> DataplaneError {
    move |e| DataplaneError::Map { map, detail: chain(&e) }
}

fn load_error(e: &(dyn std::error::Error + 'static)) -> DataplaneError {
    let detail = chain(e);
    if detail.contains("Operation not permitted") {
        return DataplaneError::Privilege { action: format!("load eBPF programs ({detail})") };
    }
    DataplaneError::Load { detail }
}

/// Loads programs and maps, the latter from their pins in `pin_dir` if they are there.
pub(crate) fn load(pin_dir: &Path) -> Result<(Programs, Maps, Fences), DataplaneError> {
    let pins = prepare_pins(pin_dir)?;
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(&pins)
        .load(OBJECT)
        .map_err(|e| load_error(&e))?;
    let xdp: &mut Xdp = program(&mut ebpf, XDP_PROGRAM)?;
    xdp.load().map_err(|e| load_error(&e))?;
    for name in TC_PROGRAMS {
        let tc: &mut SchedClassifier = program(&mut ebpf, name)?;
        tc.load().map_err(|e| load_error(&e))?;
    }
    let maps = Maps {
        groups: take(&mut ebpf, "group_info")?,
        vmacs: take(&mut ebpf, "vmacs")?,
        ports: take(&mut ebpf, "ports")?,
        up: take(&mut ebpf, "sessions_up")?,
        down: take(&mut ebpf, "sessions_down")?,
        flows: take(&mut ebpf, "session_flows")?,
        bases: take(&mut ebpf, "counter_bases")?,
        drops: take(&mut ebpf, "drop_counts")?,
        nat_networks: take(&mut ebpf, "nat_networks")?,
        bans: take(&mut ebpf, "bans")?,
        unknown: take(&mut ebpf, "unknown_sources")?,
    };
    let fences = take(&mut ebpf, "fences")?;
    Ok((Programs { ebpf, pins }, maps, fences))
}

/// Opens the fences that another process pinned.
pub(crate) fn pinned_fences(pin_dir: &Path) -> Result<Fences, DataplaneError> {
    let path = pin_dir.join(format!("layout{LAYOUT}")).join("fences");
    let map = MapData::from_pin(path).map_err(map_error("fences"))?;
    Fences::try_from(Map::Array(map)).map_err(map_error("fences"))
}

/// Returns a program of the object as the kind that it is.
fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<P, DataplaneError>
where
    P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let missing = || DataplaneError::Load { detail: format!("the object has no program {name}") };
    ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(|e| load_error(&e))
}

fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, DataplaneError> {
    let map = ebpf
        .take_map(name)
        .ok_or(DataplaneError::Load { detail: format!("the object has no map {name}") })?;
    M::try_from(map).map_err(map_error(name))
}

/// Makes the pin directory of this layout, and drops those of others.
fn prepare_pins(pin_dir: &Path) -> Result<PathBuf, DataplaneError> {
    let failed = |source| DataplaneError::BpfFs { path: pin_dir.to_owned(), source };
    if pin_dir.starts_with(BPF_FS) && !is_bpf_fs(Path::new(BPF_FS)) {
        let none: Option<&str> = None;
        nix::mount::mount(Some("bpf"), BPF_FS, Some("bpf"), nix::mount::MsFlags::empty(), none)
            .map_err(|e| failed(e.into()))?;
    }
    let ours = format!("layout{LAYOUT}");
    let pins = pin_dir.join(&ours);
    fs::create_dir_all(&pins).map_err(failed)?;
    for entry in fs::read_dir(pin_dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != ours.as_str() {
            remove_pins(&entry.path()).map_err(failed)?;
        }
    }
    Ok(pins)
}

fn is_bpf_fs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::FsType(BPF_FS_MAGIC.into()))
}

/// Removes a directory of pins; absent is fine.
pub(crate) fn remove_pins(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Programs {
    /// Attaches a tc program, or replaces the one of a former process without a gap. It stays when the
    /// process ends.
    pub(crate) fn attach_tc(
        &mut self,
        interface: &str,
        program: &'static str,
        direction: TcAttachType,
    ) -> Result<(), DataplaneError> {
        let failed =
            |detail| DataplaneError::Attach { interface: interface.to_owned(), program, detail };
        match tc::qdisc_add_clsact(interface) {
            Ok(()) => {}
            Err(e) if format!("{e:?}").contains("AlreadyAttached") => {}
            Err(e) if chain(&e).contains("File exists") => {}
            Err(e) => return Err(failed(chain(&e))),
        }
        let classifier: &mut SchedClassifier = self::program(&mut self.ebpf, program)?;
        let handle = TcHandle::new(0, FILTER_HANDLE);
        let options = NlOptions { priority: FILTER_PRIORITY, handle, classid: None };
        let attached =
            classifier.attach_with_options(interface, direction, TcAttachOptions::Netlink(options));
        let link_id = match attached {
            Ok(id) => id,
            Err(first) => {
                let old = SchedClassifierLink::attached(
                    interface,
                    direction,
                    FILTER_PRIORITY,
                    handle,
                    None,
                )
                .map_err(|e| failed(e.to_string()))?;
                // Not there either: the first error says why.
                classifier.attach_to_link(old).map_err(|_| failed(chain(&first)))?
            }
        };
        let link = classifier.take_link(link_id).map_err(|e| failed(chain(&e)))?;
        // Dropping the link would detach the filter.
        std::mem::forget(link);
        Ok(())
    }

    /// Attaches XDP, or replaces the program of a former process without a gap; returns the mode. The
    /// link is pinned, so that it outlives the process.
    pub(crate) fn attach_xdp(
        &mut self,
        interface: &str,
        index: u32,
        mode: XdpMode,
    ) -> Result<&'static str, DataplaneError> {
        let pins = self.pins.clone();
        let xdp: &mut Xdp = program(&mut self.ebpf, XDP_PROGRAM)?;
        let tries: &[(&'static str, AyaXdpMode)] = match mode {
            XdpMode::Auto => &[("native", AyaXdpMode::Driver), ("generic", AyaXdpMode::Skb)],
            XdpMode::Native => &[("native", AyaXdpMode::Driver)],
            XdpMode::Generic => &[("generic", AyaXdpMode::Skb)],
        };
        for (name, _) in tries {
            if replace_xdp(xdp, &pin_path(&pins, name, index)) {
                return Ok(name);
            }
        }
        for name in ["native", "generic"] {
            // Unpinning detaches: a link of another mode, or of an interface that is gone.
            let _ = fs::remove_file(pin_path(&pins, name, index));
        }
        let mut failed = None;
        for &(name, mode) in tries {
            match xdp.attach_to_if_index(index, mode) {
                Ok(id) => {
                    pin_xdp(xdp, id, &pin_path(&pins, name, index), interface, name)?;
                    return Ok(name);
                }
                Err(e) => {
                    failed = Some(DataplaneError::Xdp {
                        interface: interface.to_owned(),
                        mode: name,
                        detail: chain(&e),
                    });
                }
            }
        }
        Err(failed.expect("at least one mode was tried"))
    }

    /// Where the pins are.
    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }
}

/// Names a link by interface index: names may have dots, which the BPF file system refuses.
fn pin_path(pins: &Path, mode: &str, index: u32) -> PathBuf {
    pins.join(format!("xdp_{mode}_{index}"))
}

fn replace_xdp(xdp: &mut Xdp, path: &Path) -> bool {
    let Ok(pinned) = PinnedLink::from_pin(path) else { return false };
    let link: FdLink = pinned.into();
    let Ok(link) = XdpLink::try_from(link) else { return false };
    match xdp.attach_to_link(link) {
        // The pin keeps it; our handle may be dropped.
        Ok(id) => xdp.take_link(id).is_ok(),
        Err(_) => false,
    }
}

fn pin_xdp(
    xdp: &mut Xdp,
    id: aya::programs::xdp::XdpLinkId,
    path: &Path,
    interface: &str,
    mode: &'static str,
) -> Result<(), DataplaneError> {
    let failed = |detail| DataplaneError::Xdp { interface: interface.to_owned(), mode, detail };
    let link = xdp.take_link(id).map_err(|e| failed(chain(&e)))?;
    let link = FdLink::try_from(link).map_err(|e| failed(chain(&e)))?;
    link.pin(path).map_err(|e| failed(chain(&e)))?;
    Ok(())
}

impl Maps {
    /// Returns the drops of all CPUs, by reason.
    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        (0_u32..)
            .zip(DROP_REASONS)
            .map(|(i, name)| {
                let sum = self.drops.get(&i, 0).map(|per_cpu| per_cpu.iter().sum()).unwrap_or(0);
                (name, sum)
            })
            .collect()
    }
}
