"""Every command with its one line of help and the module that has it: no code, nothing to import."""

from __future__ import annotations

# words -> (module in mover.commands, what it does)
COMMANDS: dict[tuple[str, ...], tuple[str, str]] = {
    ("repo", "create"): ("repo", "make a repository at URL and connect to it"),
    ("repo", "connect"): ("repo", "use the repository at URL from now on"),
    ("repo", "disconnect"): ("repo", "forget the connection"),
    ("repo", "status"): ("repo", "show where the repository is, how it is made, and what hurts"),
    ("repo", "health"): ("health", "show sizes by kind and what hurts"),
    ("repo", "maintain"): ("maintain", "collect garbage and look after the indexes"),
    ("repo", "verify"): ("repo_verify", "read contents back, and remember what was read when"),
    ("repo", "repair"): ("repair", "look for damage, and repair what can be"),
    ("repo", "sync-to"): ("sync_to", "copy the repository to another place"),
    ("repo", "set-parameters"): ("repo_parameters", "change pack size, index version, object lock, epochs"),
    ("repo", "throttle"): ("repo_throttle", "show or change the limits that belong to the connection"),
    ("repo", "upgrade"): ("repo_upgrade", "upgrade the repository to format 3"),
    ("repo", "change-password"): ("password", "change the password of a repository"),
    ("maintenance", "info"): ("maintain", "show owner, schedule and history of maintenance"),
    ("backup",): ("backup", "back up a directory, file, block device or stream"),
    ("restore",): ("restore", "restore a snapshot, or a part of it"),
    ("verify",): ("verify", "check that snapshots can be read back"),
    ("find",): ("find_file", "find a file in snapshots, and when it changed"),
    ("stats",): ("stats", "show what snapshots hold, and what deduplication and compression save"),
    ("ls",): ("tree", "list a directory in a snapshot"),
    ("cat",): ("tree", "print a file in a snapshot"),
    ("diff",): ("tree", "list what differs between two snapshots"),
    ("snapshot", "list"): ("snapshot", "list snapshots"),
    ("snapshot", "show"): ("snapshot", "show a snapshot's manifest"),
    ("snapshot", "copy"): ("snapshot_copy", "copy snapshots into another repository"),
    ("snapshot", "delete"): ("snapshot", "delete snapshots"),
    ("snapshot", "expire"): ("snapshot", "delete what the retention policy does not keep"),
    ("snapshot", "pin"): ("snapshot", "add or remove pins: pinned snapshots do not expire"),
    ("policy", "show"): ("policy", "show policies"),
    ("policy", "set"): ("policy", "change a policy"),
    ("policy", "list"): ("policy_files", "list the targets that have a policy"),
    ("policy", "delete"): ("policy_files", "delete the policy of a target"),
    ("policy", "export"): ("policy_files", "write all policies to a file"),
    ("policy", "import"): ("policy_files", "define the policies in a file"),
    ("cache", "info"): ("cache", "show what is cached on the local disk"),
    ("cache", "clear"): ("cache", "delete what is cached on the local disk"),
    ("content", "list"): ("inspection", "list contents"),
    ("content", "inspect"): ("inspection", "show a content, or where it is"),
    ("blob", "list"): ("inspection", "list blobs"),
    ("blob", "inspect"): ("inspection", "show a blob as stored"),
    ("index", "list"): ("inspection", "list index blobs"),
    ("index", "inspect"): ("inspection", "list the entries of an index blob"),
    ("velero", "ls"): ("velero", "list the backups in a bucket of Velero, a backup's volumes, their files"),
    ("velero", "show"): ("velero", "show a backup, or where a volume of it lies"),
    ("velero", "cat"): ("velero", "print a file of a volume"),
    ("velero", "find"): ("velero", "find a volume, or a file of it, in all backups"),
    ("velero", "diff"): ("velero", "list what differs in a volume between two backups"),
    ("velero", "restore"): ("velero_restore", "restore a file, a volume, or all volumes of a backup"),
    ("completion",): ("completion", "print a completion script for bash, zsh, fish or tcsh"),
}
GROUPS = frozenset(words[0] for words in COMMANDS if len(words) > 1)
# general options that take a value: the word after them is no command
VALUE_OPTIONS = frozenset(
    {
        "--repo",
        "--bsl",
        "--namespace",
        "--credentials-file",
        "--cache-directory",
        "--cache-limit",
        "--config",
        "--password-file",
        "--password-command",
        "--max-upload-speed",
        "--max-download-speed",
        "--throttle-file",
        "--memory-limit",
        "--kill-at",
    }
)

EXAMPLES = """\
examples:
  export KOPIA_PASSWORD=…
  mover repo create /srv/backups
  mover backup /home/me --tag kind:nightly
  mover snapshot list
  mover restore latest/documents /tmp/documents
  mover verify --percent 100

Every command takes --repo URL (or MOVER_REPOSITORY), --config FILE, --password-file FILE, --json, --quiet
and --debug; its own options and examples: mover COMMAND --help. Exit codes: 0 done, 2 wrong usage,
5 finished with failed entries, 10 canceled, 20 temporary failure, 30 permanent failure (31 no repository,
32 wrong password, 33 no such snapshot), 40 damaged repository. With --json a failure is a document on
standard error."""


def help_text(group: tuple[str, ...] = ()) -> str:
    """What `mover --help` prints, or what it prints for one group of commands."""
    shown = {words: line for words, (_, line) in COMMANDS.items() if words[: len(group)] == group}
    width = max(len(" ".join(words)) for words in shown)
    lines = [f"  {' '.join(words):{width}}  {line}" for words, line in shown.items()]
    if group:
        return "\n".join([f"usage: mover {' '.join(group)} COMMAND [options]", "", *lines])
    title = "Back up, restore and verify in the Kopia repository format."
    return "\n".join(["usage: mover COMMAND [options]", "", title, "", *lines, "", EXAMPLES])
