-- Find the state a token gives power over; else nil and the answer for its holder.
-- `standing` is what the caller would make of it: the same, done before, is ALREADY_DONE.
local function judge(id, nonce, standing)
  local state = read_state(id)
  if state and state.nonce == nonce then
    if state.standing == LIVE then return state end
    return nil, state.standing == standing and ALREADY_DONE or STALE
  end
  if recall_call() then return nil, DONE end
  local mark = read_mark(id)
  if mark and mark.nonce == nonce then
    return nil, mark.standing == standing and ALREADY_DONE or STALE
  end
  if state or mark or redis.call('HEXISTS', k_messages, id) == 1 then return nil, STALE end
  return nil, UNKNOWN
end
