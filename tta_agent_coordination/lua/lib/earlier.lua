-- What a claim brings: `reply` gets id, record, attempts and error of each message. One that is
-- repeated gets what it handed out earlier.
local now = now_us()
local deadline = now + visibility
local ends = int(deadline)
local reply, handed = {}, {}

local function found(id, record, attempts, error)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = id, record, attempts, error
  handed[#handed + 1] = id
end

-- Who asks for fewer than the first time was not answered, perhaps because of their size.
local function repeat_earlier(claimed)
  -- As release does. Its token is nobody's: the answer that held it did not get through. It is not
  -- live from now on, so a copy that asks for more does not find it.
  local function give_back(id, state)
    redis.call('ZREM', k_leased, id)
    state.attempts, state.standing = math.max(state.attempts - 1, 0), RELEASED
    write_state(id, state)
    redis.call('ZADD', k_ready, state.score, id)
  end

  for id in string.gmatch(claimed, '%S+') do
    local state = read_state(id)
    local record = redis.call('HGET', k_messages, id)
    local mine = record and state and state.nonce == call and state.standing == LIVE
    if mine and #handed == most then
      give_back(id, state)
    elseif mine then
      redis.call('ZREM', k_ready, id)
      redis.call('ZADD', k_leased, ends, id)
      found(id, record, state.attempts, state.error)
    end
  end
end
