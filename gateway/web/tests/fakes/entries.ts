/** Entries and rows of listings. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Row, rowOf } from "../../src/files/row";
import { EntryKind, EntrySchema } from "../../src/gen/wherry/type/v1/entry_pb";

export type EntryInit = MessageInitShape<typeof EntrySchema>;

export function file(name: string, sizeBytes = 1, modifiedMs = 0): EntryInit {
  return {
    name,
    kind: EntryKind.FILE,
    sizeBytes: BigInt(sizeBytes),
    modifyTime: timestampFromMs(modifiedMs),
    mode: 0o644,
  };
}

export function folder(name: string, modifiedMs = 0): EntryInit {
  return { name, kind: EntryKind.DIRECTORY, modifyTime: timestampFromMs(modifiedMs), mode: 0o755 };
}

/** A file whose name is no UTF-8: `caf` and the byte e9 of ISO 8859-1. */
export function rawFile(): EntryInit {
  return { name: "caf\\xe9", rawName: Uint8Array.of(0x63, 0x61, 0x66, 0xe9), kind: EntryKind.FILE };
}

export function row(entry: EntryInit): Row {
  return rowOf(create(EntrySchema, entry));
}

export function rows(...entries: readonly EntryInit[]): readonly Row[] {
  return entries.map(row);
}

export function names(shown: readonly Row[]): readonly string[] {
  return shown.map(({ name }) => name);
}
