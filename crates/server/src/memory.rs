//! How much memory this process may use. Owns the finding of the limit; refuses to decide what it is spent on.
//!
//! A process has the machine's memory, less where a control group around it says so: cgroups(7) of both versions, as
//! systemd, Docker and Kubernetes set them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Where each version keeps a group's limit below the mount point: the controllers that `/proc/self/cgroup` names in the
/// group's line, the directory, the file.
const VERSIONS: [(&str, &str, &str); 2] = [("", "", "memory.max"), ("memory", "memory", "memory.limit_in_bytes")];

/// Bytes that the process may use at most. `None`: the system does not say.
#[must_use]
pub fn limit() -> Option<u64> {
    let machine =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    let machine = Some(machine.total_memory()).filter(|bytes| *bytes > 0);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.into_iter().chain(of_groups(&groups, Path::new("/sys/fs/cgroup"))).min()
}

/// The smallest limit of the groups that `/proc/self/cgroup` names, and of those around them.
fn of_groups(groups: &str, mounted: &Path) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        for (controller, directory, file) in VERSIONS {
            if controllers.split(',').any(|named| named == controller) {
                limits.extend(of_group(&mounted.join(directory), Path::new(group), file));
            }
        }
    }
    limits.into_iter().min()
}

/// The smallest limit on the way from a group to the root. In a container the way may begin outside of what is mounted:
/// then its root is the container's own.
fn of_group(root: &Path, group: &Path, file: &str) -> Option<u64> {
    let names = group.components().filter(|part| matches!(part, Component::Normal(_)));
    let within: PathBuf = names.collect();
    let read = |group: &Path| fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse().ok();
    // "max" is no number, and no limit.
    within.ancestors().filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_smallest_limit_on_the_way_counts_in_version_2() {
        let files =
            [("jobs/memory.max", "268435456\n"), ("jobs/shop/memory.max", "max\n"), ("other/memory.max", "1\n")];
        let dir = mounted(&files);
        assert_eq!(of_groups("0::/jobs/shop\n", dir.path()), Some(268_435_456));
        assert_eq!(of_groups("0::/elsewhere\n", dir.path()), None);
        assert_eq!(of_groups("0::/\n", dir.path()), None);
    }

    #[test]
    fn version_1_has_a_hierarchy_of_its_own_for_memory() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/jobs/memory.limit_in_bytes", "536870912\n"),
            ("memory.max", "7\n"),
        ];
        let dir = mounted(&files);
        assert_eq!(of_groups("4:cpu,cpuacct:/jobs\n3:memory:/jobs\n", dir.path()), Some(536_870_912));
    }

    #[test]
    fn a_container_that_does_not_see_its_group_reads_its_root() {
        let dir = mounted(&[("memory.max", "1073741824\n")]);
        assert_eq!(of_groups("0::/../../outside\n", dir.path()), Some(1 << 30));
        assert_eq!(of_groups("nonsense\n\n0::\n", dir.path()), Some(1 << 30));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(limit().is_some_and(|bytes| bytes > 16 << 20), "{:?}", limit());
    }
}
