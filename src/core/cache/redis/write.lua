-- Writes snapshots of one shard. Texts are compared, never numbers: a Lua number is a double.
-- KEYS[1] the shard's epoch, KEYS[2] its leader's pulse, KEYS[3..] accounts; ARGV[1] the writer's
-- epoch in 20 digits, ARGV[2] its pulse (epoch and number in 20 digits each) or nothing, ARGV[3] the
-- pulse that must stand there or nothing, ARGV[4..] values that begin with epoch and position in 20
-- digits each.
-- Answers how many were newer, or -1 if the writer's epoch is over; and 1 if the pulse was lost.
-- Running it twice changes nothing.
local stored = redis.call('MGET', unpack(KEYS))
local epoch = stored[1]
-- What is no epoch is as good as none.
if epoch and (#epoch ~= 20 or epoch:find('%D')) then epoch = false end
if epoch and epoch > ARGV[1] then return {-1, 0} end
if epoch ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end

local digits = string.rep('%d', 20)
local pulse = stored[2]
if not pulse or not pulse:find('^' .. digits .. ' ' .. digits .. '$') then pulse = '' end
local lost = pulse < ARGV[3]
if not lost and pulse < ARGV[2] then redis.call('SET', KEYS[2], ARGV[2]) end

local form = '^' .. digits .. ' ' .. digits .. ' '
local newest, changes = {}, {}
for i = 3, #KEYS do
  local key, value = KEYS[i], ARGV[i + 1]
  local old = newest[key] or stored[i]
  -- What has another form was not written by us, and is replaced; looked at last, because it costs most.
  if not old or old:sub(1, 41) < value:sub(1, 41) or not old:find(form) then
    newest[key] = value
    changes[#changes + 1] = key
    changes[#changes + 1] = value
  end
end
if #changes > 0 then redis.call('MSET', unpack(changes)) end
return {#changes / 2, lost and 1 or 0}
