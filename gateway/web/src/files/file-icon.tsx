/** An icon for what an entry is, by its kind and by the end of its name. */
import {
  File,
  FileArchive,
  FileChartColumn,
  FileQuestionMark,
  FileSymlink,
  FileText,
  Folder,
  FolderOpen,
  type LucideIcon,
} from "lucide-react";
import { EntryKind } from "../gen/wherry/type/v1/entry_pb";
import type { Row } from "./row";

const DATA = /\.(h5|hdf5|he5|nxs|nc|cbf|fits|root|parquet|zarr|csv|tsv|npy|npz|mat)$/i;
const ARCHIVE = /\.(tar|tgz|gz|bz2|xz|zst|zip|7z)$/i;
const TEXT = /\.(md|txt|log|ya?ml|toml|json|xml|pdf|ipynb|py|r|sh|sha256|md5)$/i;
const ENDING = /.\.[^.]+$/;

export function FileIcon({ row, open }: { readonly row: Row; readonly open: boolean }) {
  const Icon = iconOf(row, open);
  return <Icon size={16} className="ficon" aria-hidden />;
}

function iconOf(row: Row, open: boolean): LucideIcon {
  // What it is shows only when it is there; a name without an ending is more often a directory's.
  if (row.arrival?.recursive && !ENDING.test(row.name)) return Folder;
  switch (row.kind) {
    case EntryKind.DIRECTORY:
      return open ? FolderOpen : Folder;
    case EntryKind.SYMLINK:
      return FileSymlink;
    case EntryKind.FILE:
      if (DATA.test(row.name)) return FileChartColumn;
      if (ARCHIVE.test(row.name)) return FileArchive;
      return TEXT.test(row.name) ? FileText : File;
    default:
      return FileQuestionMark;
  }
}
