-- Takes a gate, or holds it longer if it is ours. KEYS[1] the gate; ARGV[1] who, ARGV[2] for how
-- many milliseconds. MGET, because it answers nothing, and no error, for a key of another type.
local holder = redis.call('MGET', KEYS[1])[1]
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
