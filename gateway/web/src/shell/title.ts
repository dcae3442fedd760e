import { useEffect } from "react";
import { words } from "../words";

/** Sets the document's title, by which tabs are told apart and screen readers say where one is. */
export function useTitle(page: string): void {
  useEffect(() => {
    document.title = words.title(page);
  }, [page]);
}
