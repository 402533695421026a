// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {
    IAccessControlDefaultAdminRules as IAdmin
} from "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

import {FounderVault} from "../src/FounderVault.sol";
import {Settlement} from "../src/Settlement.sol";
import {TokenSale} from "../src/TokenSale.sol";
import {Market} from "./Market.sol";

/**
 * @dev Who may call what: every function of our contracts that changes something, called by each of the cast. Whoever
 * lacks the role is refused with exactly that reason; whoever has it gets past the gate. That the table is complete is
 * read from the committed ABI.
 */
contract RolesTest is Market {
    struct Row {
        string name;
        bytes call;
        bytes32 role;
    }

    bytes32 private constant ANYONE = keccak256("anyone");
    bytes32 private constant ADMIN = 0;
    bytes32 private constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");
    bytes32 private constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    bytes32 private constant SALES_ROLE = keccak256("SALES_ROLE");
    bytes32 private constant CASHIER_ROLE = keccak256("CASHIER_ROLE");
    bytes32 private constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    Row[] private _rows;

    function _row(string memory name, bytes memory call_, bytes32 role) private {
        _rows.push(Row(name, call_, role));
    }

    function _members() private view returns (address[10] memory) {
        return [address(timelock), PROPOSER, OPERATOR, GUARDIAN, SALES, CASHIER, TREASURY, FOUNDER, BUYER, STRANGER];
    }

    /// @dev The functions that contracts with roles inherit.
    function _inherited(bytes32 role) private {
        _row("grantRole", abi.encodeCall(IAccessControl.grantRole, (role, STRANGER)), ADMIN);
        _row("revokeRole", abi.encodeCall(IAccessControl.revokeRole, (role, STRANGER)), ADMIN);
        _row("renounceRole", abi.encodeCall(IAccessControl.renounceRole, (role, BUYER)), ANYONE);
        _row("beginDefaultAdminTransfer", abi.encodeCall(IAdmin.beginDefaultAdminTransfer, (STRANGER)), ADMIN);
        _row("cancelDefaultAdminTransfer", abi.encodeCall(IAdmin.cancelDefaultAdminTransfer, ()), ADMIN);
        _row("acceptDefaultAdminTransfer", abi.encodeCall(IAdmin.acceptDefaultAdminTransfer, ()), ANYONE);
        _row("changeDefaultAdminDelay", abi.encodeCall(IAdmin.changeDefaultAdminDelay, (1 days)), ADMIN);
        _row("rollbackDefaultAdminDelay", abi.encodeCall(IAdmin.rollbackDefaultAdminDelay, ()), ADMIN);
    }

    /// @dev Calls every row as each of the cast, each time from the same state.
    function _check(address target, string memory contractName) private {
        _checkComplete(contractName);
        address[10] memory members = _members();
        for (uint256 i = 0; i < _rows.length; ++i) {
            for (uint256 j = 0; j < members.length; ++j) {
                _checkOne(target, _rows[i], members[j]);
            }
        }
    }

    function _checkOne(address target, Row memory row, address member) private {
        bytes memory refusal =
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, member, row.role);
        bool allowed = row.role == ANYONE || IAccessControl(target).hasRole(row.role, member);
        uint256 state = vm.snapshotState();
        vm.prank(member);
        (bool done, bytes memory answer) = target.call(row.call);
        vm.revertToState(state);
        if (allowed) {
            bool refused = !done && bytes4(answer) == IAccessControl.AccessControlUnauthorizedAccount.selector;
            vm.assertFalse(refused, row.name);
        } else {
            vm.assertTrue(!done && keccak256(answer) == keccak256(refusal), row.name);
        }
    }

    function _checkComplete(string memory contractName) private view {
        string memory abi_ = vm.readFile(string.concat("../chain/abi/", contractName, ".json"));
        uint256 found;
        for (uint256 i = 0; vm.keyExistsJson(abi_, _part(i, "type")); ++i) {
            if (!_same(vm.parseJsonString(abi_, _part(i, "type")), "function")) continue;
            string memory kind = vm.parseJsonString(abi_, _part(i, "stateMutability"));
            if (_same(kind, "view") || _same(kind, "pure")) continue;
            string memory name = vm.parseJsonString(abi_, _part(i, "name"));
            vm.assertTrue(_isListed(name), name);
            ++found;
        }
        vm.assertEq(found, _rows.length);
    }

    function _part(uint256 number, string memory key) private pure returns (string memory) {
        return string.concat(".abi[", vm.toString(number), "].", key);
    }

    function _same(string memory one, string memory other) private pure returns (bool) {
        return keccak256(bytes(one)) == keccak256(bytes(other));
    }

    function _isListed(string memory name) private view returns (bool) {
        for (uint256 i = 0; i < _rows.length; ++i) {
            if (_same(_rows[i].name, name)) {
                return true;
            }
        }
        return false;
    }

    function test_Settlement() public {
        Settlement.Totals memory totals;
        Settlement.Epoch memory epoch;
        bytes32[] memory proof;
        Settlement.Claimant[] memory claimants;
        bytes memory permitted = abi.encodeCall(Settlement.depositWithPermit, (ACCOUNT, 1, 0, 0, 0, 0));
        _row("deposit", abi.encodeCall(Settlement.deposit, (ACCOUNT, 1)), ANYONE);
        _row("depositWithPermit", permitted, ANYONE);
        _row("settle", abi.encodeCall(Settlement.settle, (1, 0, 0, totals)), OPERATOR_ROLE);
        _row("veto", abi.encodeCall(Settlement.veto, (1)), GUARDIAN_ROLE);
        _row("claim", abi.encodeCall(Settlement.claim, (epoch, BUYER, 1, proof)), ANYONE);
        _row("claimMany", abi.encodeCall(Settlement.claimMany, (epoch, claimants)), ANYONE);
        _inherited(OPERATOR_ROLE);
        _check(address(settlement), "Settlement");
    }

    function test_TokenSale() public {
        bytes memory permitted = abi.encodeCall(TokenSale.buyWithStablecoinPermit, (1, 1, 0, 0, 0, 0, 0));
        bytes memory unsold = abi.encodeCall(TokenSale.decideUnsold, (1, 1, "reason"));
        _row("openRound", abi.encodeCall(TokenSale.openRound, (1)), SALES_ROLE);
        _row("closeRound", abi.encodeCall(TokenSale.closeRound, ()), SALES_ROLE);
        _row("decideUnsold", unsold, SALES_ROLE);
        _row("buyWithStablecoin", abi.encodeCall(TokenSale.buyWithStablecoin, (1, 1, 0)), ANYONE);
        _row("buyWithStablecoinPermit", permitted, ANYONE);
        _row("buyWithEther", abi.encodeCall(TokenSale.buyWithEther, (0, 0)), ANYONE);
        _row("allocate", abi.encodeCall(TokenSale.allocate, (ACCOUNT, 1, REFERENCE)), CASHIER_ROLE);
        _row("allocateTo", abi.encodeCall(TokenSale.allocateTo, (BUYER, 1, REFERENCE)), CASHIER_ROLE);
        _row("pause", abi.encodeCall(TokenSale.pause, ()), PAUSER_ROLE);
        _row("unpause", abi.encodeCall(TokenSale.unpause, ()), PAUSER_ROLE);
        _row("setTreasury", abi.encodeCall(TokenSale.setTreasury, (BUYER)), ADMIN);
        _row("setCashierLimit", abi.encodeCall(TokenSale.setCashierLimit, (1)), ADMIN);
        _inherited(SALES_ROLE);
        _check(address(sale), "TokenSale");
    }

    function test_FounderVaultHasNoRoles() public {
        _row("observe", abi.encodeCall(FounderVault.observe, ()), ANYONE);
        _row("release", abi.encodeCall(FounderVault.release, ()), ANYONE);
        _check(address(vault), "FounderVault");
    }

    function test_IntercoinHasNoRoles() public {
        _row("transfer", abi.encodeCall(IERC20.transfer, (BUYER, 0)), ANYONE);
        _row("transferFrom", abi.encodeCall(IERC20.transferFrom, (BUYER, BUYER, 0)), ANYONE);
        _row("approve", abi.encodeCall(IERC20.approve, (BUYER, 0)), ANYONE);
        _row("permit", abi.encodeCall(IERC20Permit.permit, (BUYER, BUYER, 0, 0, 0, 0, 0)), ANYONE);
        _check(address(ntc), "Intercoin");
    }

    function test_WhoHasWhichRole() public view {
        vm.assertEq(settlement.defaultAdmin(), address(timelock));
        vm.assertEq(sale.defaultAdmin(), address(timelock));
        vm.assertTrue(settlement.hasRole(OPERATOR_ROLE, OPERATOR) && settlement.hasRole(GUARDIAN_ROLE, GUARDIAN));
        vm.assertTrue(sale.hasRole(SALES_ROLE, SALES) && sale.hasRole(CASHIER_ROLE, CASHIER));
        vm.assertTrue(sale.hasRole(PAUSER_ROLE, GUARDIAN));
    }
}
