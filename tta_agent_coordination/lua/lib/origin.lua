-- The call that stored a message before, if that keeps it out now; `record` or `mark` is what is left.
-- A call that is repeated meets its message even where the dedup window is shorter.
local function earlier_origin(record, mark, now)
  if record then return string.match(record, '^%d+ %d+ (%S+) ') or '-' end
  return mark and (mark.origin == call or mark.ends > now and replay == '') and mark.origin
end
