/** Another process's memory, as whoever may debug it sees it (Linux: /proc/PID/mem). */

import { closeSync, openSync, readFileSync, readSync } from "node:fs";

export interface Mapping {
  readonly startAddress: number;
  readonly endAddress: number;
  readonly residentKiB: number;
  /** Two letters each: see VmFlags in proc_pid_smaps(5). */
  readonly flags: readonly string[];
}

/** Yama can forbid to debug even one's own child. */
export function canReadMemory(): boolean {
  if (process.platform !== "linux") return false;
  try {
    return Number(readFileSync("/proc/sys/kernel/yama/ptrace_scope", "utf8")) < 2;
  } catch {
    return true;
  }
}

/** The readable mappings that hold anything of the process's own: the text of programs does not count. */
export function ownMappings(processId: number): readonly Mapping[] {
  const text = readFileSync(`/proc/${processId}/smaps`, "utf8");
  return text
    .split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
    .filter((entry) => kibibytes(entry, "Private_Dirty") + kibibytes(entry, "Shared_Dirty") > 0)
    .map((entry) => {
      const [, start = "", end = ""] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(entry) ?? [];
      return {
        startAddress: Number.parseInt(start, 16),
        endAddress: Number.parseInt(end, 16),
        residentKiB: kibibytes(entry, "Rss"),
        flags: /^VmFlags: (.*)$/m.exec(entry)?.[1]?.split(" ") ?? [],
      };
    })
    .filter(({ flags }) => flags.includes("rd"));
}

function kibibytes(smapsEntry: string, label: string): number {
  return Number(new RegExp(`^${label}: +(\\d+) kB$`, "m").exec(smapsEntry)?.[1] ?? 0);
}

/** Locked, so never swapped, and left out of core dumps: OpenSSL's secure heap, and nothing else in a Node process. */
export function isSecureHeap({ flags }: Mapping): boolean {
  return flags.includes("lo") && flags.includes("dd");
}

export interface Memory {
  /** Undefined where there is nothing. */
  read(address: number, bytes: number): Buffer | undefined;
  /** All of a mapping but what is zero, piece by piece, each with the last bytes of the one before it. */
  pieces(mapping: Mapping, overlapBytes: number): Iterable<{ address: number; bytes: Buffer }>;
  close(): void;
}

const pieceBytes = 64 * 1024;

/** The bytes that `read` returns are good until it is called again. */
export function openMemory(processId: number): Memory {
  const file = openSync(`/proc/${processId}/mem`, "r");
  const buffer = Buffer.alloc(2 * pieceBytes);
  const zeros = Buffer.alloc(2 * pieceBytes);

  function read(address: number, bytes: number): Buffer | undefined {
    try {
      return buffer.subarray(0, readSync(file, buffer, 0, bytes, address));
    } catch {
      return undefined;
    }
  }

  return {
    read,
    *pieces({ startAddress, endAddress }, overlapBytes) {
      for (let next = startAddress; next < endAddress; next += pieceBytes) {
        const address = Math.max(startAddress, next - overlapBytes);
        const bytes = read(address, Math.min(next + pieceBytes, endAddress) - address);
        if (bytes !== undefined && !bytes.equals(zeros.subarray(0, bytes.length))) yield { address, bytes };
      }
    },
    close: () => closeSync(file),
  };
}
