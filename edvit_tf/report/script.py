"""The few lines of script that a page carries: columns sort by a click on their title, and folded
parts are printed too. Without it the page shows all the same.

No library: plotly's smallest bundle is a megabyte, and these charts are drawn already.
"""

import hashlib
from base64 import b64encode

SCRIPT = """
const UNITS={B:1,KB:1e3,MB:1e6,GB:1e9,TB:1e12,ms:1,s:1e3,min:6e4,h:36e5,k:1e3,M:1e6,G:1e9,T:1e12};
function value(cell){
  const said=cell.textContent.replace(/,/g,"").replace(/\\u2212/g,"-").trim();
  const found=/^([+-]?\\d*\\.?\\d+(?:e[+-]?\\d+)?)\\s*([A-Za-z]*)/.exec(said);
  return found?+found[1]*(UNITS[found[2]]||1):NaN;
}
function sort(head,column){
  const body=head.closest("table").tBodies[0];
  const down=head.getAttribute("aria-sort")!=="descending";
  for(const other of head.parentNode.children)other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort",down?"descending":"ascending");
  const rows=[...body.rows].map((row,i)=>
    ({row,i,said:row.cells[column].textContent,is:value(row.cells[column])}));
  rows.sort((a,b)=>{
    if(isNaN(a.is)!==isNaN(b.is))return isNaN(a.is)?1:-1;
    const by=isNaN(a.is)?b.said.localeCompare(a.said):b.is-a.is;
    return (down?by:-by)||a.i-b.i;
  });
  body.append(...rows.map(one=>one.row));
}
for(const table of document.querySelectorAll("table")){
  if(table.tBodies[0].rows.length<3)continue;
  [...table.tHead.rows[0].cells].forEach((head,column)=>{
    if(!head.textContent.trim())return;
    const button=document.createElement("button");
    button.append(...head.childNodes);
    button.title="sort";
    button.addEventListener("click",()=>sort(head,column));
    head.append(button);
  });
}
addEventListener("beforeprint",()=>{
  for(const one of document.querySelectorAll("details"))one.open=true;
});
""".strip()

# What a page may load: nothing, but what stands in it. A label that was taken for a script would
# not run.
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src "
    f"'sha256-{b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)
