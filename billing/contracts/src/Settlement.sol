// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// Longer than 300 lines: a contract is read, audited and verified as one.

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ISettlement} from "./interfaces/ISettlement.sol";

/**
 * @dev Escrow of NTC that pays device owners and publishers' withdrawals, one transaction per epoch however many they are.
 *
 * Anyone deposits NTC for an account of the portal. Each epoch the operator settles two Merkle roots: `payoutRoot` over
 * `(account, cumulative)`, where `cumulative` is everything the account has ever earned here, and `usageRoot` over the
 * hashes of the usage statements behind it. After `claimDelay` the epoch is claimable, unless a guardian vetoed it
 * before. A claim pays the cumulative amount minus what the account was paid already, so the same earnings can never be
 * paid twice, whichever epoch proves them, in whatever order, by whomever it is sent.
 *
 * Both trees are those of OpenZeppelin's StandardMerkleTree: leaves are hashed twice, pairs are sorted.
 *
 * Storage is laid out for cheap epochs. Of an epoch only a commitment is kept, in a ring of {RING} slots; who claims
 * shows the epoch as the event {Settled} told it. The newest claimable epoch can always be shown: if the ring comes
 * round to it while no later one is claimable, its commitment moves to the {anchor}.
 *
 * What an epoch may pay is bounded by the total it announced: `paid <= announced <= deposited`, always.
 *
 * Roles: the operator settles, guardians veto, the default admin (a timelock) appoints both and can do neither.
 * NTC leaves this contract by {claim} and {claimMany} alone.
 */
contract Settlement is ISettlement, AccessControlDefaultAdminRules {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /// @dev What an epoch adds up to. Amounts are in base units; all meters count since the beginning.
    struct Totals {
        uint96 cumulative; // sum of all leaves of the payout tree
        uint32 accounts; // number of leaves of the payout tree
        uint32 statements; // number of leaves of the usage tree
        uint128[5] meters; // transfer bytes, storage byte-seconds, compute instructions, uptime milliseconds, active users
    }

    /// @dev An epoch as it was settled.
    struct Epoch {
        uint64 number;
        uint64 claimableAt;
        bytes32 payoutRoot;
        bytes32 usageRoot;
        uint96 cumulative;
    }

    /// @dev One leaf of a payout tree with its proof.
    struct Claimant {
        address account;
        uint256 cumulative;
        bytes32[] proof;
    }

    /// @dev One slot. 72 bits hold 188,000 times the whole supply.
    struct State {
        uint40 nextEpoch;
        uint72 deposited;
        uint72 paid;
        uint72 announced; // the highest total among the epochs that anyone claimed from
    }

    event Deposited(bytes32 indexed account, address indexed payer, uint256 amount);
    event Settled(uint64 indexed epoch, bytes32 payoutRoot, bytes32 usageRoot, uint64 claimableAt, Totals totals);
    event Vetoed(uint64 indexed epoch, address indexed guardian);
    event Claimed(address indexed account, uint64 indexed epoch, uint256 amount, uint256 cumulative);

    /// @dev Epochs are settled in order, each once; `expected` is the next.
    error SettlementUnexpectedEpoch(uint64 epoch, uint64 expected);

    /// @dev The payout tree promises more than was ever deposited.
    error SettlementUnderfunded(uint256 cumulative, uint256 deposited);

    /// @dev All slots are taken by epochs that wait for their delay; the oldest is claimable at `claimableAt`.
    error SettlementTooManyPending(uint64 epoch, uint64 claimableAt);

    /// @dev The epoch is not settled.
    error SettlementUnknownEpoch(uint64 epoch);

    /// @dev The epoch's slot was taken by a later one. Claim from the newest claimable epoch.
    error SettlementForgottenEpoch(uint64 epoch);

    /// @dev What was shown is not what was settled for this epoch.
    error SettlementWrongEpoch(uint64 epoch);

    /// @dev The epoch was vetoed.
    error SettlementVetoedEpoch(uint64 epoch);

    /// @dev The time for a veto is over.
    error SettlementVetoTooLate(uint64 epoch, uint64 claimableAt);

    /// @dev The time for a veto is not over yet.
    error SettlementNotClaimableYet(uint64 epoch, uint64 claimableAt);

    /// @dev The proof does not lead to the epoch's payout root.
    error SettlementInvalidProof(address account, uint256 cumulative);

    /// @dev The account was already paid this much or more.
    error SettlementNothingToClaim(address account, uint256 cumulative, uint256 paid);

    /// @dev The epochs shown so far announced less than this would pay in all: the operator lied about the total.
    error SettlementOverdrawn(uint256 paid, uint256 announced);

    /// @dev A deposit of nothing, or for nobody.
    error SettlementInvalidDeposit(bytes32 account, uint256 amount);

    /// @dev The delay is longer than {MAX_CLAIM_DELAY}.
    error SettlementInvalidDelay(uint64 claimDelay);

    bytes32 public constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    /// @dev Seconds between naming a new default admin and the earliest acceptance.
    uint48 public constant ADMIN_TRANSFER_DELAY = 3 days;

    /// @dev The longest `claimDelay`, in seconds, so that a typing error cannot lock earnings away.
    uint64 public constant MAX_CLAIM_DELAY = 30 days;

    /// @dev How many epochs are kept. No more can wait for their delay at the same time.
    uint64 public constant RING = 128;

    /// @dev What fills a slot before its first epoch: no commitment, claimable long ago. Never zero, so that settling is cheap.
    bytes32 private constant FILLING = bytes32(uint256(1));

    IERC20 public immutable token;

    /// @dev Seconds a guardian has to veto an epoch.
    uint64 public immutable claimDelay;

    State private _state;
    bytes32[RING] private _ring;

    /// @dev The commitment of the last epoch that was the newest claimable one when the ring came round to it.
    bytes32 public anchor;

    mapping(bytes32 account => uint256) public deposited;
    mapping(address account => uint256) public paid;

    /// @dev `operator` and `guardian` get their roles; `admin` may change them later.
    constructor(IERC20 token_, uint64 claimDelay_, address admin, address operator, address guardian)
        AccessControlDefaultAdminRules(ADMIN_TRANSFER_DELAY, admin)
    {
        if (claimDelay_ > MAX_CLAIM_DELAY) {
            revert SettlementInvalidDelay(claimDelay_);
        }
        token = token_;
        claimDelay = claimDelay_;
        _state.nextEpoch = 1;
        anchor = FILLING;
        for (uint256 i = 0; i < RING; ++i) {
            _ring[i] = FILLING;
        }
        _grantRole(OPERATOR_ROLE, operator);
        _grantRole(GUARDIAN_ROLE, guardian);
    }

    /// @dev The number the next {settle} must carry. The first is 1.
    function nextEpoch() external view returns (uint64) {
        return _state.nextEpoch;
    }

    /// @dev Base units ever deposited.
    function totalDeposited() external view returns (uint256) {
        return _state.deposited;
    }

    /// @dev Base units ever paid out.
    function totalPaid() external view returns (uint256) {
        return _state.paid;
    }

    /// @dev The highest total announced by the epochs that anyone claimed from, in base units.
    function totalAnnounced() external view returns (uint256) {
        return _state.announced;
    }

    /// @dev What is kept of an epoch. All zero: not settled, or so long ago that its slot was taken. A vetoed epoch has no
    /// `claimableAt`.
    function commitment(uint64 epoch) external view returns (bytes32 value, uint64 claimableAt, bool vetoed) {
        uint64 next = _state.nextEpoch;
        if (epoch == 0 || epoch >= next || epoch + RING < next) {
            return (0, 0, false);
        }
        value = _ring[epoch % RING];
        claimableAt = _claimableAt(value);
        vetoed = claimableAt == 0;
    }

    /// @dev What the contract keeps of such an epoch: 216 bits of its hash, then 40 bits of `claimableAt`.
    function commitmentOf(Epoch calldata epoch) public pure returns (bytes32) {
        return _commitment(epoch.number, epoch.claimableAt, epoch.payoutRoot, epoch.usageRoot, epoch.cumulative);
    }

    /// @dev Takes `amount` from the caller, who approved it before, and credits it to the portal's `account`.
    function deposit(bytes32 account, uint256 amount) external {
        _deposit(account, amount);
    }

    /**
     * @dev Like {deposit}, with the approval as a signature of the caller.
     *
     * The permit's failure is ignored: somebody may have sent the same signature first, which leaves the approval in
     * place. Without an approval the transfer fails.
     */
    function depositWithPermit(bytes32 account, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(account, amount);
    }

    /**
     * @dev Settles an epoch. It becomes claimable `claimDelay` seconds later.
     *
     * Requirements: the caller is the operator; `epoch` is {nextEpoch}; deposits cover `totals.cumulative`; not all slots
     * are taken by epochs that wait for their delay.
     */
    function settle(uint64 epoch, bytes32 payoutRoot, bytes32 usageRoot, Totals calldata totals)
        external
        onlyRole(OPERATOR_ROLE)
    {
        State storage state = _state;
        if (epoch != state.nextEpoch) {
            revert SettlementUnexpectedEpoch(epoch, state.nextEpoch);
        }
        if (totals.cumulative > state.deposited) {
            revert SettlementUnderfunded(totals.cumulative, state.deposited);
        }
        _makeRoom(epoch);
        uint64 claimableAt;
        unchecked {
            // Neither a time nor a number reaches 40 bits in 30,000 years.
            claimableAt = uint64(block.timestamp) + claimDelay;
            state.nextEpoch = uint40(epoch + 1);
        }
        _ring[epoch % RING] = _commitment(epoch, claimableAt, payoutRoot, usageRoot, totals.cumulative);
        _emitSettled(epoch, payoutRoot, usageRoot, claimableAt, totals);
    }

    /**
     * @dev Refuses an epoch and every later one, because their cumulative amounts build on it.
     *
     * Requirements: the caller is a guardian; the epoch is settled, not vetoed and not yet claimable.
     */
    function veto(uint64 epoch) external onlyRole(GUARDIAN_ROLE) {
        uint64 next = _state.nextEpoch;
        if (epoch == 0 || epoch >= next) {
            revert SettlementUnknownEpoch(epoch);
        }
        if (epoch + RING < next) {
            revert SettlementForgottenEpoch(epoch);
        }
        uint64 claimableAt = _claimableAt(_ring[epoch % RING]);
        if (claimableAt == 0) {
            revert SettlementVetoedEpoch(epoch);
        }
        if (block.timestamp >= claimableAt) {
            revert SettlementVetoTooLate(epoch, claimableAt);
        }
        for (uint64 later = epoch; later < next; ++later) {
            bytes32 value = _ring[later % RING];
            if (_claimableAt(value) != 0) {
                _ring[later % RING] = _vetoed(value);
                emit Vetoed(later, msg.sender);
            }
        }
    }

    /**
     * @dev Pays `account` what it has earned up to `epoch` and was not paid yet. Anyone may send it; the NTC goes to
     * the account.
     *
     * Requirements: the epoch is the settled one and claimable; `proof` shows `(account, cumulative)` under its payout
     * root; there is something to pay.
     */
    function claim(Epoch calldata epoch, address account, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount)
    {
        _requireClaimable(epoch);
        amount = _book(epoch, account, cumulative, proof);
        if (amount == 0) {
            revert SettlementNothingToClaim(account, cumulative, paid[account]);
        }
        _count(epoch.cumulative, amount);
        token.safeTransfer(account, amount);
    }

    /**
     * @dev Pays many accounts at once, for a relayer: {claim} for each, except that an account with nothing to claim is
     * skipped. Returns what was paid in all.
     */
    function claimMany(Epoch calldata epoch, Claimant[] calldata claimants) external returns (uint256 amount) {
        _requireClaimable(epoch);
        uint256[] memory amounts = new uint256[](claimants.length);
        for (uint256 i = 0; i < claimants.length; ++i) {
            Claimant calldata claimant = claimants[i];
            amounts[i] = _book(epoch, claimant.account, claimant.cumulative, claimant.proof);
            amount += amounts[i];
        }
        _count(epoch.cumulative, amount);
        for (uint256 i = 0; i < claimants.length; ++i) {
            if (amounts[i] != 0) {
                token.safeTransfer(claimants[i].account, amounts[i]);
            }
        }
    }

    function _deposit(bytes32 account, uint256 amount) private {
        if (account == 0 || amount == 0) {
            revert SettlementInvalidDeposit(account, amount);
        }
        deposited[account] += amount;
        _state.deposited += amount.toUint72();
        emit Deposited(account, msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev Emits {Settled} with the totals copied as they came, which saves 1,000 gas in each epoch. They are refused if a
    /// number does not fit its type; Solidity does the same whenever it reads one.
    function _emitSettled(
        uint64 epoch,
        bytes32 payoutRoot,
        bytes32 usageRoot,
        uint64 claimableAt,
        Totals calldata totals
    ) private {
        bytes32 topic = Settled.selector;
        assembly ("memory-safe") {
            let counts := or(calldataload(add(totals, 0x20)), calldataload(add(totals, 0x40)))
            let meters := or(calldataload(add(totals, 0x60)), calldataload(add(totals, 0x80)))
            meters := or(meters, calldataload(add(totals, 0xa0)))
            meters := or(meters, or(calldataload(add(totals, 0xc0)), calldataload(add(totals, 0xe0))))
            if or(shr(32, counts), shr(128, meters)) { revert(0, 0) }
            let data := mload(0x40)
            mstore(data, payoutRoot)
            mstore(add(data, 0x20), usageRoot)
            mstore(add(data, 0x40), claimableAt)
            calldatacopy(add(data, 0x60), totals, 0x100)
            log2(data, 0x160, topic, epoch)
        }
    }

    /// @dev Sees to it that the slot an epoch is about to take can be spared.
    function _makeRoom(uint64 epoch) private {
        bytes32 old = _ring[epoch % RING];
        uint64 claimableAt = _claimableAt(old);
        if (claimableAt > block.timestamp) {
            revert SettlementTooManyPending(epoch - RING, claimableAt);
        }
        uint64 next = _claimableAt(_ring[(epoch + 1) % RING]);
        if ((next == 0 || next > block.timestamp) && claimableAt != 0) {
            anchor = old;
        }
    }

    /// @dev Refuses an epoch that is not the settled one, or not claimable.
    function _requireClaimable(Epoch calldata epoch) private view {
        bytes32 shown = commitmentOf(epoch);
        bytes32 kept = _ring[epoch.number % RING];
        if (shown != kept && shown != anchor) {
            uint64 next = _state.nextEpoch;
            if (epoch.number == 0 || epoch.number >= next) {
                revert SettlementUnknownEpoch(epoch.number);
            }
            if (epoch.number + RING < next) {
                revert SettlementForgottenEpoch(epoch.number);
            }
            if (_vetoed(shown) == kept) {
                revert SettlementVetoedEpoch(epoch.number);
            }
            revert SettlementWrongEpoch(epoch.number);
        }
        if (block.timestamp < epoch.claimableAt) {
            revert SettlementNotClaimableYet(epoch.number, epoch.claimableAt);
        }
    }

    /// @dev Checks one leaf and notes it as paid. Returns what is to be paid, 0 for nothing.
    function _book(Epoch calldata epoch, address account, uint256 cumulative, bytes32[] calldata proof)
        private
        returns (uint256 amount)
    {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
        if (!MerkleProof.verifyCalldata(proof, epoch.payoutRoot, leaf)) {
            revert SettlementInvalidProof(account, cumulative);
        }
        uint256 before = paid[account];
        if (cumulative <= before) {
            return 0;
        }
        amount = cumulative - before;
        paid[account] = cumulative;
        emit Claimed(account, epoch.number, amount, cumulative);
    }

    /// @dev Adds to what was paid in all, within what was announced.
    function _count(uint96 announced, uint256 amount) private {
        State memory state = _state;
        uint256 sum = state.paid + amount;
        if (announced > state.announced) {
            _state.announced = uint72(announced); // not above what was deposited when it was settled
        } else {
            announced = state.announced;
        }
        if (sum > announced) {
            revert SettlementOverdrawn(sum, announced);
        }
        _state.paid = uint72(sum);
    }

    function _commitment(uint64 number, uint64 claimableAt, bytes32 payoutRoot, bytes32 usageRoot, uint96 cumulative)
        private
        pure
        returns (bytes32)
    {
        bytes32 hash = keccak256(abi.encode(number, claimableAt, payoutRoot, usageRoot, cumulative));
        return _vetoed(hash) | bytes32(uint256(uint40(claimableAt)));
    }

    /// @dev The commitment with its `claimableAt` taken away.
    function _vetoed(bytes32 value) private pure returns (bytes32) {
        return value & ~bytes32(uint256(type(uint40).max));
    }

    function _claimableAt(bytes32 value) private pure returns (uint64) {
        return uint40(uint256(value));
    }
}
