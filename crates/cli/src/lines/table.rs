//! The forms of log lines, one entry each. Owns the patterns; refuses to know what is done with their pieces.
//!
//! A pattern describes the *prefix* of a line; the message is whatever follows. Named groups say what a piece is
//! (see `format::Slot`); a group with any other name goes to the record's metadata under that name. Order matters:
//! the first form that matches wins, so the particular ones come before the general ones. Except for the general ones at
//! the end, no line may match two forms: a test holds the samples to it.

/// A form of log lines.
pub(super) struct Form {
    /// For people.
    pub(super) name: &'static str,
    /// The prefix. `{ISO}`, `{LEVEL}` and the other [`FRAGMENTS`] are replaced before it is compiled.
    pub(super) prefix: &'static str,
    /// Takes part of lines that a particular form would read better: never tried first.
    pub(super) general: bool,
}

const fn particular(name: &'static str, prefix: &'static str) -> Form {
    Form { name, prefix, general: false }
}

const fn general(name: &'static str, prefix: &'static str) -> Form {
    Form { name, prefix, general: true }
}

/// Pieces that many forms share.
pub(super) const FRAGMENTS: &[(&str, &str)] = &[
    (
        "{ISO}",
        r"(?<year>[0-9]{4})[-/](?<month>[0-9]{2})[-/](?<day>[0-9]{2})[Tt ]{HMS}(?:[.,](?<fraction>[0-9]{1,9}))?(?<offset>Z| ?[+-][0-9]{2}:?[0-9]{2}| UTC| GMT)?",
    ),
    ("{SYSLOG}", r"(?<month>[A-Z][a-z]{2}) (?<day>[ 0-9][0-9]) (?:(?<year>[0-9]{4}) )?{HMS}"),
    ("{HMS}", r"(?<hour>[0-9]{2}):(?<minute>[0-9]{2}):(?<second>[0-9]{2})"),
    // Delimited by the form, so any case will do.
    (
        "{LEVEL}",
        r"(?<level>(?i:TRACE[1-8]?|DEBUG|FINEST|FINER|FINE|VERBOSE|INFORMATION|INFO|NOTICE|WARNING|WARN|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|ALERT|EMERGENCY|EMERG|PANIC))",
    ),
    // Stands where prose could stand too, so only capitals.
    ("{WORD}", r"(?<level>TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|SEVERE|CRITICAL|FATAL)"),
    ("{PID}", r"(?<pid>[0-9]{1,18})"),
    ("{TID}", r"(?<tid>[0-9]{1,18})"),
    ("{THREAD}", r"\[(?<thread>[^\]]*)\]"),
    ("{LINE}", r"(?<line>[0-9]{1,9})"),
];

/// Every form, in the order in which they are tried.
pub(super) const FORMS: &[Form] = &[
    // 081109 203615 148 INFO dfs.DataNode: msg
    particular(
        "hdfs",
        r"(?<year>[0-9]{2})(?<month>[0-9]{2})(?<day>[0-9]{2}) (?<hour>[0-9]{2})(?<minute>[0-9]{2})(?<second>[0-9]{2}) {PID} {LEVEL} (?<logger>[^\s:]+): ?",
    ),
    // 17/06/09 20:10:40 INFO executor.Executor: msg
    particular("spark", r"(?<year>[0-9]{2})/(?<month>[0-9]{2})/(?<day>[0-9]{2}) {HMS} {LEVEL} +(?<logger>[^\s:]+): ?"),
    // 2015-07-29 17:41:44,747 - INFO  [thread:Class@774] - msg
    particular("zookeeper", r"{ISO} - {LEVEL} +\[(?<thread>.*):(?<logger>[^:@\]\s]+)@{LINE}\] - ?"),
    // [file] 2017-05-16 00:00:00.008 25746 INFO nova.compute [req-…] msg
    particular(
        "openstack",
        r"(?:(?<file>[^\s\[<]\S*) )?{ISO} {PID} {LEVEL} (?<logger>[A-Za-z_][\w.]*) (?:\[(?<request>-|req-[^\]]*)\] )?",
    ),
    // 2025-01-13 12:34:56.789  INFO 1234 --- [app] [main] c.e.Demo : msg
    particular(
        "spring boot",
        r"{ISO} +{LEVEL} {PID} --- (?:\[(?<application>[^\]]*)\] )??{THREAD} (?<logger>\S+) *: ?",
    ),
    // 2025-01-13 12:34:56.789 | INFO     | module:function:12 - msg
    particular("loguru", r"{ISO} \| {LEVEL} +\| (?<logger>[^\s:|]+):(?<function>[^\s:|]+):{LINE} - ?"),
    // 2025-01-13 12:34:56,789 - name - LEVEL - msg, and without the name
    particular("python", r"{ISO} - (?:(?<logger>\S+(?: \S+){0,3}?) - )?{LEVEL} - ?"),
    // 2015-10-18 18:01:47,978 INFO [main] org.apache.hadoop.App: msg (log4j), with " - " too
    particular("log4j", r"{ISO} +{LEVEL} +{THREAD} +(?<logger>[\w.$/-]+)(?::{LINE})?(?: -|:) ?"),
    // 2025-01-13 12:34:56.789 [main] INFO com.example.App - msg
    particular("logback", r"{ISO} +{THREAD} +{LEVEL} +(?<logger>\S+) +- ?"),
    // 2025-01-13 12:34:56.789 UTC [123] user@db LOG:  msg
    particular(
        "postgres",
        r"{ISO} \[{PID}\] (?:(?<connection>\S+@\S+) )?(?<level>LOG|DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|CONTEXT|STATEMENT): +",
    ),
    // [2025-01-13T12:34:56.789+0000] {taskinstance.py:1345} INFO - msg
    particular("airflow", r"\[{ISO}\] \{(?<filename>[^:}]+):{LINE}\} {LEVEL} - ?"),
    // [2025-01-13 12:34:56,789: INFO/MainProcess] msg
    particular("celery", r"\[{ISO}: {LEVEL}/(?<process>[^\]]+)\] ?"),
    // [2025-01-13 12:34:56 +0000] [123] [INFO] msg
    particular("gunicorn", r"\[{ISO}\] \[{PID}\] \[{LEVEL}\] ?"),
    // [2025-01-13T12:34:56Z INFO  crate::module] msg
    particular("env_logger", r"\[{ISO} {LEVEL} +(?<logger>[^\]\s]+)\] ?"),
    // 2025-01-13T12:34:56.789Z  INFO crate::module: msg, and log4j without a thread
    particular(
        "tracing",
        r"{ISO} +{WORD} +(?<logger>[A-Za-z_][\w.$/-]*(?:::[\w.$-]+)*)(?:\[{PID}\])?(?::{LINE})?(?::| -)(?: |$)",
    ),
    // <34>1 2025-01-13T12:34:56.789Z host app 123 ID47 [a@1 b="c"] msg
    particular(
        "rfc 5424",
        r#"<(?<priority>[0-9]{1,3})>1 (?:{ISO}|-) (?:-|(?<host>\S+)) (?:-|(?<logger>\S+)) (?:{PID}|(?<procid>\S+)) (?<msgid>\S+) (?<structured_data>-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+)(?: \x{feff}?|$)"#,
    ),
    // Jun 14 15:16:01 host program(detail)[pid]: msg, with or without <34> before it
    particular(
        "syslog",
        r"(?:<(?<priority>[0-9]{1,3})>)?{SYSLOG} (?<host>[\w.:-]+) +(?:(?<logger>[^\s:\[]+)(?:\[{PID}\])?:(?: |$))?",
    ),
    // I0113 12:34:56.789012     123 file.cc:12] msg
    particular(
        "glog",
        r"(?<letter>[IWEFD])(?<month>[0-9]{2})(?<day>[0-9]{2}) {HMS}\.(?<fraction>[0-9]{1,9}) +{TID} (?<filename>[^\s:\]]+):{LINE}\] ?",
    ),
    // [Sun Dec 04 04:47:44.123 2005] [core:error] [pid 123:tid 456] msg
    particular(
        "apache error",
        r"\[(?:[A-Z][a-z]{2} )?(?<month>[A-Z][a-z]{2}) (?<day>[ 0-9][0-9]) {HMS}(?:\.(?<fraction>[0-9]{1,9}))? (?<year>[0-9]{4})\] \[(?:(?<logger>\w+):)?{LEVEL}\] (?:\[pid {PID}(?::tid {TID})?\] )?",
    ),
    // 2025/01/13 12:34:56 [error] 123#456: msg
    particular("nginx error", r"{ISO} \[{LEVEL}\] {PID}#{TID}: ?"),
    // 127.0.0.1 - frank [13/Jan/2025:12:34:56 +0000] "GET / HTTP/1.1" 200 12
    particular(
        "access log",
        r"(?<client>\S+) (?<ident>\S+) (?<user>\S+) \[(?<day>[0-9]{2})/(?<month>[A-Z][a-z]{2})/(?<year>[0-9]{4}):{HMS} (?<offset>[+-][0-9]{4})\] ",
    ),
    // time="2025-01-13T12:34:56Z" level=info msg=…
    particular("logfmt", r#"(?:time|ts)="?{ISO}"? level={LEVEL} "#),
    // 12:34:56.789 [main] INFO com.example.App - msg: a time of day is no moment
    particular(
        "logback without a date",
        r"(?<time_of_day>[0-9]{2}:[0-9]{2}:[0-9]{2}[.,][0-9]{3}) {THREAD} {LEVEL} +(?<logger>\S+) +- ?",
    ),
    // INFO:root:msg
    particular("python without a time", r"{WORD}:(?<logger>[\w.-]+):"),
    // 2025-01-13T12:34:56.789+01:00 host program[pid]: msg
    general("rsyslog", r"{ISO} (?<host>[\w.-]+) (?<logger>[^\s:\[\]]+)\[{PID}\]: ?"),
    // 2025-01-13 12:34:56 [info] msg
    general("time and level", r"[\[(]?{ISO}[\])]?[ \t,|:-]*[\[(<]{LEVEL} *[\])>]:?(?:[ \t|:-]+|$)"),
    // 2025/01/13 12:34:56 ERROR msg; [2025-01-13 12:34:56] ERROR: msg
    general("time and word", r"[\[(]?{ISO}[\])]?[ \t,|:-]+{WORD}:?(?:[ \t|:-]+|$)"),
    // [INFO] 2025-01-13 12:34:56 msg; INFO 2025-01-13 12:34:56,789 msg
    general("level and time", r"[\[(<]?{WORD}[\])>]?:?[ \t]+[\[(]?{ISO}[\])]?:?(?:[ \t|-]+|$)"),
    // 2025-01-13T12:34:56Z msg
    general("time", r"[\[(]?{ISO}[\])]?:?(?:[ \t|-]+|$)"),
    // [ERROR] msg
    general("level in brackets", r"\[{LEVEL}\]:?[ \t]+"),
    // ERROR: msg; ERROR msg
    general("level", r"{WORD}(?::|[ \t]-)?[ \t]+"),
    // error[E0425]: msg; warning: msg
    general("compiler", r"(?<level>error|warning)(?:\[(?<code>[\w:-]+)\])?: "),
];
