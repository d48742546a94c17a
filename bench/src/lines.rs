//! The messages of the load: lines in the shapes that seven kinds of systems print, in words of our own. A template's
//! blanks are filled once, for a pool of some thousand lines; the numbers in them are drawn anew for every record, so that
//! neither a dictionary nor a compressor sees the same lines again and again.

use fastrand::Rng;

/// How many lines the pool has, before their numbers are drawn anew.
const POOL: usize = 14_000;

/// A line, ready but for its numbers.
pub(crate) struct Line {
    pub(crate) level: &'static str,
    pub(crate) logger: String,
    pub(crate) message: String,
}

/// What one kind of system prints: (weight, level, logger, template).
///
/// In a template `#` is a digit, `~` a hexadecimal one, `{ip}` an address, `{host}` a machine, `{user}` a name, `{path}` a
/// file, `{class}` a class, `{id}` a number of twenty digits, `{uuid}` what it says.
type Shape = (u32, &'static str, &'static str, &'static str);

const SPARK: &[Shape] = &[
    (10, "INFO", "executor.Executor", "Task ##.0 of stage ##.0 (TID ####) began"),
    (10, "INFO", "executor.Executor", "Task ##.0 of stage ##.0 (TID ####) is done, #### bytes went to the driver"),
    (8, "INFO", "storage.BlockManager", "Block rdd_##_# was found here"),
    (8, "INFO", "rdd.HadoopRDD", "Split read from hdfs://{host}:9000/user/{user}/{path}:########+######"),
    (9, "INFO", "python.PythonRunner", "Spent in all ## ms: boot -####, init ####, finish #"),
    (4, "INFO", "storage.MemoryStore", "Block broadcast_## kept as values, estimated at ####.# KB, ###.# MB are free"),
    (3, "INFO", "output.FileOutputCommitter", "Output of task attempt_##########_####_m_######_# kept under {path}"),
    (2, "WARNING", "scheduler.TaskSetManager", "Lost task ##.# in stage ##.# (TID ####, {host}, executor #): {class}"),
    (1, "ERROR", "executor.Executor", "Exception in task ##.# in stage ##.# (TID ####): {class} at {path}:###"),
];
const HADOOP: &[Shape] = &[
    (
        9,
        "INFO",
        "org.apache.hadoop.mapreduce.v2.app.job.impl.TaskAttemptImpl",
        "attempt_#############_####_m_######_# moved from RUNNING to SUCCESS_FINISHING_CONTAINER",
    ),
    (
        8,
        "INFO",
        "org.apache.hadoop.mapred.TaskAttemptListenerImpl",
        "Progress of attempt_#############_####_m_######_# is 0.#######",
    ),
    (
        8,
        "INFO",
        "org.apache.hadoop.mapreduce.v2.app.rm.RMContainerAllocator",
        "After scheduling: maps waiting # running ##, reduces waiting # running #, containers given ##, host-local ##, rack-local #",
    ),
    (6, "INFO", "org.apache.hadoop.yarn.event.AsyncDispatcher", "Registered class org.apache.hadoop.{class}"),
    (
        12,
        "WARNING",
        "org.apache.hadoop.ipc.Client",
        "The address of {host}:#### changed: it was {ip}:####, it is {ip}:####",
    ),
    (
        10,
        "WARNING",
        "org.apache.hadoop.hdfs.LeaseRenewer",
        "The lease of [DFSClient_NONMAPREDUCE_##########_#] could not be renewed for ### s and will be tried again",
    ),
    (
        7,
        "ERROR",
        "org.apache.hadoop.mapreduce.v2.app.rm.RMContainerAllocator",
        "CONTAINER ALLOCATOR CANNOT REACH {host}:8030: {class}: no route to host, retry ##",
    ),
    (1, "CRITICAL", "org.apache.hadoop.mapred.Task", "Child of {host} ({user}) ended by {class}"),
];
const HDFS: &[Shape] = &[
    (10, "INFO", "dfs.DataNode$PacketResponder", "PacketResponder # for block blk_-{id} ends"),
    (10, "INFO", "dfs.DataNode$PacketResponder", "Block blk_{id} of size 67108864 came from /{ip}"),
    (10, "INFO", "dfs.DataNode$DataXceiver", "Block blk_-{id} on its way from: /{ip}:##### to: /{ip}:50010"),
    (9, "INFO", "dfs.FSNamesystem", "BLOCK* NameSystem.addStoredBlock: {ip}:50010 now has blk_{id}, size ########"),
    (6, "INFO", "dfs.FSNamesystem", "BLOCK* NameSystem.delete: blk_-{id} joins the invalid ones of {ip}:50010"),
    (4, "INFO", "dfs.DataNode$DataXceiver", "{ip}:50010 gave block blk_{id} to /{ip}"),
    (3, "INFO", "dfs.FSDataset", "Deletes block blk_-{id}, file /mnt/hadoop/dfs/data/current/subdir##/blk_-{id}"),
    (2, "WARNING", "dfs.DataNode$DataXceiver", "{ip}:50010 got an exception while it gave blk_{id} to /{ip}:"),
];
const OPENSTACK: &[Shape] = &[
    (
        20,
        "INFO",
        "nova.osapi_compute.wsgi.server",
        "{ip} \"GET /v2/{uuid}/servers/detail HTTP/1.1\" status: 200 len: #### time: 0.#######",
    ),
    (
        6,
        "INFO",
        "nova.metadata.wsgi.server",
        "{ip},{ip} \"GET /openstack/2013-10-17/{path} HTTP/1.1\" status: 200 len: ### time: 0.2######",
    ),
    (
        8,
        "INFO",
        "nova.virt.libvirt.imagecache",
        "image {uuid} at (/var/lib/nova/instances/_base/~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~): to be checked",
    ),
    (6, "INFO", "nova.compute.manager", "[instance: {uuid}] VM went on (Lifecycle Event)"),
    (5, "INFO", "nova.compute.claims", "[instance: {uuid}] Memory in all: 64172 MB, used: ####.00 MB"),
    (
        3,
        "WARNING",
        "nova.virt.libvirt.imagecache",
        "Base file without owner: /var/lib/nova/instances/_base/~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
    ),
    (1, "ERROR", "nova.compute.manager", "[instance: {uuid}] did not stop in 60 seconds on {host}: {class}"),
];
const ZOOKEEPER: &[Shape] = &[
    (8, "INFO", "NIOServerCnxn$Factory@###", "Socket connection taken from /{ip}:#####"),
    (
        7,
        "INFO",
        "QuorumPeer[myid=#]/0:0:0:0:0:0:0:0:2181:FastLeaderElection@###",
        "New election, id # and zxid 0x~~~~~~~~~",
    ),
    (6, "INFO", "NIOServerCnxn@####", "Socket of client /{ip}:##### closed, which had session 0x14~~~~~~~~~~~~~"),
    (
        9,
        "WARNING",
        "RecvWorker:############:QuorumCnxManager$RecvWorker@###",
        "Connection of id ############ broke, my id = #, error =",
    ),
    (
        9,
        "WARNING",
        "SendWorker:############:QuorumCnxManager$SendWorker@###",
        "Interrupted while it waited for messages",
    ),
    (5, "WARNING", "WorkerSender[myid=#]", "No channel to # at election address {host}/{ip}:3888"),
    (1, "ERROR", "CommitProcessor:#", "Unexpected {class}: no such session 0x14~~~~~~~~~~~~~"),
];
const LINUX: &[Shape] = &[
    (
        9,
        "INFO",
        "sshd(pam_unix)",
        "authentication failed; logname= uid=0 euid=0 tty=NODEVssh ruser= rhost={host} user={user}",
    ),
    (9, "INFO", "ftpd", "connected from {ip} ({host}) on Sun Jul 17 ##:##:## 2005"),
    (6, "INFO", "su(pam_unix)", "session of user {user} opened by (uid=#)"),
    (6, "INFO", "su(pam_unix)", "session of user {user} closed"),
    (5, "INFO", "kernel", "audit(##########.####:#): {path} initialized"),
    (3, "INFO", "logrotate", "ALERT left abnormally with [#]"),
    (3, "INFO", "core", "check passed; user unknown on {host}"),
];
const APACHE: &[Shape] = &[
    (9, "INFO", "core", "jk2_init() has child #### in slot ## of the scoreboard"),
    (8, "INFO", "core", "workerEnv.init() read /etc/httpd/conf/{path}"),
    (6, "ERROR", "core", "mod_jk child of workerEnv is in state #"),
    (4, "ERROR", "core", "[client {ip}] No listing of /var/www/html/{path} by rule"),
    (1, "ERROR", "core", "[client {ip}] No such file: /var/www/html/{path}/{user}.html"),
];

/// The systems, as `source_system` names them, and what they print.
pub(crate) const SYSTEMS: [(&str, &[Shape]); 7] = [
    ("spark", SPARK),
    ("hadoop", HADOOP),
    ("hdfs", HDFS),
    ("openstack", OPENSTACK),
    ("zookeeper", ZOOKEEPER),
    ("linux", LINUX),
    ("apache", APACHE),
];

const HOSTS: [&str; 12] = [
    "mesos-master-1",
    "adsl-70-242-75",
    "node-17.cluster",
    "worker-03",
    "ec2-52-80-34",
    "ns.example.net",
    "pc-9.cable.example",
    "db7.internal",
    "edge-2.example.org",
    "dsl-static-059",
    "hadoop-41",
    "cp-1.slowvm1",
];
const USERS: [&str; 12] =
    ["root", "test", "guest", "curi", "news", "cyrus", "nobody", "ada", "grace", "linus", "etl", "postgres"];
const PATHS: [&str; 14] = [
    "workers2.properties",
    "data/part-00017",
    "output/_temporary",
    "meta_data.json",
    "logs/app.log",
    "selinux",
    "cgi-bin/form",
    "warehouse/sales/day=12",
    "user_data",
    "scripts/setup.php",
    "jobs/nightly.sql",
    "tmp/split.3",
    "index",
    "shared/ref.csv",
];
const CLASSES: [&str; 10] = [
    "java.io.IOException",
    "java.lang.OutOfMemoryError",
    "yarn.event.EventType",
    "java.net.NoRouteToHostException",
    "mapreduce.jobhistory.EventType",
    "KeyError",
    "java.nio.channels.ClosedChannelException",
    "TimeoutError",
    "org.apache.zookeeper.KeeperException",
    "ValueError",
];

/// The pool of one seed.
pub(crate) fn pool(random: &mut Rng) -> Vec<Line> {
    (0..POOL)
        .map(|n| {
            let (_, shapes) = SYSTEMS[n % SYSTEMS.len()];
            let (_, level, logger, template) = weighted(shapes, random);
            Line { level, logger: filled(logger, random), message: filled(template, random) }
        })
        .collect()
}

fn weighted(shapes: &[Shape], random: &mut Rng) -> Shape {
    let all: u32 = shapes.iter().map(|shape| shape.0).sum();
    let mut left = random.u32(..all);
    for shape in shapes {
        if left < shape.0 {
            return *shape;
        }
        left -= shape.0;
    }
    shapes[0]
}

fn filled(template: &str, random: &mut Rng) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find(['#', '~', '{']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            text.push_str(&blank(name, random));
            rest = after;
        } else {
            text.push(if rest.starts_with('~') { hexadecimal(random) } else { random.digit(10) });
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    text
}

fn blank(name: &str, random: &mut Rng) -> String {
    let one = |of: &[&str], random: &mut Rng| of[random.usize(..of.len())].to_owned();
    match name {
        "host" => one(&HOSTS, random),
        "user" => one(&USERS, random),
        "path" => one(&PATHS, random),
        "class" => one(&CLASSES, random),
        "ip" => format!("10.{}.{}.{}", random.u8(..), random.u8(..), random.u8(1..)),
        "id" => format!("{}", random.u64(1_000_000_000_000_000_000..9_000_000_000_000_000_000)),
        _ => filled("~~~~~~~~-~~~~-4~~~-a~~~-~~~~~~~~~~~~", random),
    }
}

fn hexadecimal(random: &mut Rng) -> char {
    random.digit(16)
}

/// A copy of a text with its numbers drawn anew: those of three digits and more.
pub(crate) fn redrawn(text: &str, into: &mut String, random: &mut Rng) {
    into.clear();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        into.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end < 3 {
            into.push_str(&rest[..end]);
        } else {
            into.push(char::from(b'1' + random.u8(..9)));
            into.extend((1..end).map(|_| random.digit(10)));
        }
        rest = &rest[end..];
    }
    into.push_str(rest);
}
